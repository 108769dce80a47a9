package io.infinilora.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.Signal;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
class CpuSignalTest {
  private final CpuBackend backend = new CpuBackend();
  private final Signal signal = backend.signal();

  @AfterEach
  void close() {
    backend.close();
  }

  private static long in(long time, TimeUnit unit) {
    return System.nanoTime() + unit.toNanos(time);
  }

  @Test
  void startsAtZeroAndReturnsAtOnceForWhatHasPassed() {
    assertThat(signal.value()).isZero();
    signal.release(5);
    assertThat(signal.value()).isEqualTo(5);
    assertThat(signal.await(5, in(0, TimeUnit.SECONDS))).isTrue();
    assertThat(signal.await(3, in(0, TimeUnit.SECONDS))).isTrue();
  }

  @Test
  void givesUpAtTheDeadline() {
    assertThat(signal.await(1, in(5, TimeUnit.MILLISECONDS))).isFalse();
  }

  @Test
  void anInterruptEndsTheWaitAndStaysVisible() {
    Thread.currentThread().interrupt();
    assertThat(signal.await(1, in(20, TimeUnit.SECONDS))).isFalse();
    assertThat(Thread.interrupted()).isTrue();
  }

  @Test
  void wakesAParkedWaiter() throws InterruptedException {
    AtomicReference<Boolean> result = new AtomicReference<>();
    Thread waiter =
        Thread.ofPlatform().start(() -> result.set(signal.await(1, in(20, TimeUnit.SECONDS))));
    while (waiter.getState() != Thread.State.TIMED_WAITING) {
      Thread.onSpinWait();
    }
    signal.release(1);
    waiter.join();
    assertThat(result.get()).isTrue();
  }

  @Test
  void ordersMemoryBetweenTwoThreads() throws InterruptedException {
    Signal back = backend.signal();
    int rounds = 20_000;
    long[] cell = new long[1];
    AtomicReference<String> wrong = new AtomicReference<>();
    Thread other =
        Thread.ofPlatform()
            .start(
                () -> {
                  for (int i = 1; i <= rounds; i++) {
                    if (!signal.await(i, in(20, TimeUnit.SECONDS)) || cell[0] != i) {
                      wrong.compareAndSet(null, "round " + i + " saw " + cell[0]);
                    }
                    cell[0] = -i;
                    back.release(i);
                  }
                });
    for (int i = 1; i <= rounds; i++) {
      cell[0] = i;
      signal.release(i);
      assertThat(back.await(i, in(20, TimeUnit.SECONDS))).isTrue();
      assertThat(cell[0]).isEqualTo(-i);
    }
    other.join();
    assertThat(wrong.get()).isNull();
  }
}
