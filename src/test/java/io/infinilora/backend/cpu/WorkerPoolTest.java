package io.infinilora.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.Test;

class WorkerPoolTest {
  @Test
  void runsEachPartOnce() {
    try (WorkerPool pool = new WorkerPool("pool", 4)) {
      for (int round = 0; round < 2000; round++) {
        int tasks = round % 17;
        AtomicIntegerArray runs = new AtomicIntegerArray(tasks);
        pool.run(tasks, (index, thread) -> runs.incrementAndGet(index));
        for (int i = 0; i < tasks; i++) {
          assertThat(runs.get(i)).isEqualTo(1);
        }
      }
    }
  }

  @Test
  void workersHelpAndHaveTheirOwnNumbers() {
    try (WorkerPool pool = new WorkerPool("pool", 3)) {
      // No part ends before all three have begun: it takes three threads.
      CountDownLatch begun = new CountDownLatch(3);
      AtomicIntegerArray byThread = new AtomicIntegerArray(3);
      pool.run(
          3,
          (index, thread) -> {
            byThread.incrementAndGet(thread);
            begun.countDown();
            try {
              begun.await();
            } catch (InterruptedException e) {
              throw new IllegalStateException(e);
            }
          });
      assertThat(byThread.toString()).isEqualTo("[1, 1, 1]");
    }
  }

  @Test
  void aFailureReachesTheCallerAndLeavesThePoolUsable() {
    try (WorkerPool pool = new WorkerPool("pool", 2)) {
      for (int round = 0; round < 100; round++) {
        assertThatThrownBy(
                () ->
                    pool.run(
                        8,
                        (index, thread) -> {
                          if (index == 5) {
                            throw new IllegalStateException("part 5");
                          }
                        }))
            .isInstanceOf(IllegalStateException.class)
            .hasMessage("part 5");
        AtomicIntegerArray runs = new AtomicIntegerArray(8);
        pool.run(8, (index, thread) -> runs.incrementAndGet(index));
        assertThat(runs.toString()).isEqualTo("[1, 1, 1, 1, 1, 1, 1, 1]");
      }
    }
  }

  @Test
  void closingEndsTheWorkers() {
    WorkerPool pool = new WorkerPool("closing-pool", 3);
    pool.close();
    assertThat(Thread.getAllStackTraces().keySet())
        .noneMatch(t -> t.getName().startsWith("closing-pool-worker"));
  }
}
