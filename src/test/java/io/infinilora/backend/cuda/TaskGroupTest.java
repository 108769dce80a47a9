package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Tasks that are waited for together. */
@Timeout(20)
class TaskGroupTest {
  private final ExecutorService pool = Executors.newFixedThreadPool(2);

  @AfterEach
  void stop() {
    pool.shutdownNow();
  }

  @Test
  void allTasksAreWaitedFor() {
    AtomicInteger done = new AtomicInteger();
    try (TaskGroup group = new TaskGroup(pool)) {
      for (int i = 0; i < 1000; i++) {
        group.add(done::incrementAndGet);
      }
      group.await();
      assertThat(done).hasValue(1000);
    }
  }

  @Test
  void nothingIsWaitedForAtOnce() {
    try (TaskGroup group = new TaskGroup(pool)) {
      group.await();
    }
  }

  /** The second fails first; the first is still run, what follows is not. */
  @Test
  void theFirstTasksFaultIsTold() throws InterruptedException {
    CountDownLatch secondFailed = new CountDownLatch(1);
    AtomicInteger later = new AtomicInteger();
    try (TaskGroup group = new TaskGroup(pool)) {
      group.add(
          () -> {
            await(secondFailed);
            throw new IllegalArgumentException("first");
          });
      group.add(
          () -> {
            throw new IllegalArgumentException("second");
          });
      pool.submit(secondFailed::countDown);
      assertThat(secondFailed.await(10, TimeUnit.SECONDS)).isTrue();
      group.add(later::incrementAndGet);
      assertThatThrownBy(group::await)
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessage("first");
    }
    assertThat(later).hasValue(0);
  }

  @Test
  void errorsAreFaultsToo() {
    try (TaskGroup group = new TaskGroup(pool)) {
      group.add(
          () -> {
            throw new StackOverflowError("deep");
          });
      assertThatThrownBy(group::await)
          .isInstanceOf(IllegalStateException.class)
          .cause()
          .hasMessage("deep");
    }
  }

  /** As by a pool that was shut down: the fault is the caller's, and nothing hangs. */
  @Test
  void tasksThatAreRefusedAreNotWaitedFor() {
    AtomicInteger done = new AtomicInteger();
    try (TaskGroup group = new TaskGroup(pool)) {
      group.add(done::incrementAndGet);
      pool.shutdown();
      assertThatThrownBy(() -> group.add(done::incrementAndGet))
          .isInstanceOf(RejectedExecutionException.class);
      group.await();
      assertThat(done).hasValue(1);
    }
  }

  /** Also if the thread that closes it is interrupted. */
  @Test
  void noTaskRunsOnceItIsClosed() throws InterruptedException {
    CountDownLatch begun = new CountDownLatch(2);
    CountDownLatch goOn = new CountDownLatch(1);
    AtomicInteger ended = new AtomicInteger();
    AtomicBoolean closedEarly = new AtomicBoolean();
    AtomicBoolean interrupted = new AtomicBoolean();
    Thread loader =
        Thread.ofPlatform()
            .start(
                () -> {
                  TaskGroup group = new TaskGroup(pool);
                  for (int i = 0; i < 100; i++) {
                    group.add(
                        () -> {
                          begun.countDown();
                          await(goOn);
                          ended.incrementAndGet();
                        });
                  }
                  try {
                    group.await();
                  } catch (IllegalStateException e) {
                    group.close();
                    closedEarly.set(ended.get() < 2);
                    interrupted.set(Thread.interrupted());
                  }
                });
    assertThat(begun.await(10, TimeUnit.SECONDS)).isTrue();
    loader.interrupt();
    loader.join(100);
    assertThat(loader.isAlive()).isTrue();
    goOn.countDown();
    loader.join();
    assertThat(closedEarly).isFalse();
    assertThat(interrupted).isTrue();
    pool.shutdown();
    assertThat(pool.awaitTermination(10, TimeUnit.SECONDS)).isTrue();
    assertThat(ended).hasValue(2);
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }
}
