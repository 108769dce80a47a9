package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.Test;

/** Page-locked memory is made once and shared out. */
class StagingMemoryTest {

  @Test
  void threadsTakePartsThatDoNotOverlapOnceTheyAreThere() throws InterruptedException {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment all = arena.allocate(48);
      CountDownLatch asked = new CountDownLatch(1);
      StagingMemory memory =
          new StagingMemory(
              bytes -> {
                asked.countDown();
                return new PinnedMemory(null, all.asSlice(0, bytes));
              },
              3,
              16);
      asked.await();
      for (int i = 0; i < 3; i++) {
        MemorySegment part = memory.take();
        assertThat(part.address()).isEqualTo(all.address() + 16L * i);
        assertThat(part.byteSize()).isEqualTo(16);
      }
    }
  }

  @Test
  void allThreadsAreToldThatThereIsNone() {
    try (StagingMemory memory =
        new StagingMemory(
            bytes -> {
              throw new InfiniLoraException(ErrorCode.INTERNAL, "no " + bytes + " bytes");
            },
            3,
            16)) {
      for (int i = 0; i < 3; i++) {
        assertThatThrownBy(memory::take)
            .isInstanceOf(InfiniLoraException.class)
            .hasMessage("no 48 bytes");
      }
    }
  }

  @Test
  void closingWaitsForTheDriver() throws InterruptedException {
    CountDownLatch asked = new CountDownLatch(1);
    AtomicBoolean answered = new AtomicBoolean();
    Thread closing = Thread.currentThread();
    StagingMemory memory =
        new StagingMemory(
            bytes -> {
              asked.countDown();
              while (!waitsToClose(closing)) {
                Thread.onSpinWait();
              }
              answered.set(true);
              throw new InfiniLoraException(ErrorCode.INTERNAL, "none");
            },
            3,
            16);
    asked.await();

    memory.close();

    assertThat(answered).isTrue();
  }

  private static boolean waitsToClose(Thread thread) {
    return thread.getState() == Thread.State.WAITING
        && Arrays.stream(thread.getStackTrace())
            .anyMatch(frame -> frame.getMethodName().equals("close"));
  }
}
