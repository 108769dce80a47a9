package io.infinilora.backend.cpu;

import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.locks.LockSupport;

/**
 * A fixed team of platform threads: the caller and its workers. One thread at a time may call
 * {@link #run}. Workers spin for a short while after a job, since the next operator usually follows
 * within microseconds, then park.
 */
final class WorkerPool implements AutoCloseable {
  /** How long an idle worker spins before it parks, in nanoseconds. */
  private static final long SPIN_NANOS = 60_000;

  /** A part of an operator. */
  @FunctionalInterface
  interface Task {
    /**
     * Does part {@code index}.
     *
     * @param thread who does it: 0 is the caller; selects scratch memory
     */
    void run(int index, int thread);
  }

  /** One operator: its parts are claimed by counting up. */
  private static final class Job {
    final Task task;
    final int tasks;
    final AtomicInteger claimed = new AtomicInteger();
    final AtomicInteger finished = new AtomicInteger();
    final AtomicReference<Throwable> failure = new AtomicReference<>();

    Job(Task task, int tasks) {
      this.task = task;
      this.tasks = tasks;
    }

    void work(int thread) {
      int index;
      while ((index = claimed.getAndIncrement()) < tasks) {
        try {
          if (failure.get() == null) {
            task.run(index, thread);
          }
        } catch (Throwable t) {
          failure.compareAndSet(null, t);
        } finally {
          finished.incrementAndGet();
        }
      }
    }
  }

  private final Worker[] workers;
  private volatile Job current;
  private volatile boolean closed;

  WorkerPool(String name, int threads) {
    workers = new Worker[threads - 1];
    for (int i = 0; i < workers.length; i++) {
      workers[i] = new Worker(name + "-worker-" + (i + 1), i + 1);
      workers[i].start();
    }
  }

  /** Threads that work on a job, the caller included. */
  int threads() {
    return workers.length + 1;
  }

  /**
   * Runs parts {@code 0 .. tasks-1}, in any order, and returns when all are done. The first
   * exception of any part is thrown here; parts not yet begun are then skipped, and the pool stays
   * usable.
   */
  void run(int tasks, Task task) {
    if (tasks <= 1 || workers.length == 0) {
      for (int i = 0; i < tasks; i++) {
        task.run(i, 0);
      }
      return;
    }
    Job job = new Job(task, tasks);
    current = job;
    int helpers = Math.min(workers.length, tasks - 1);
    for (int i = 0; i < helpers; i++) {
      if (workers[i].parked) {
        LockSupport.unpark(workers[i]);
      }
    }
    job.work(0);
    int spins = 0;
    while (job.finished.get() < tasks) {
      if (++spins > 20_000) {
        // The worker was descheduled in the middle of a part: give it this core.
        Thread.yield();
      } else {
        Thread.onSpinWait();
      }
    }
    Throwable failure = job.failure.get();
    switch (failure) {
      case null -> {}
      case RuntimeException e -> throw e;
      case Error e -> throw e;
      default -> throw new IllegalStateException(failure);
    }
  }

  @Override
  public void close() {
    closed = true;
    boolean interrupted = false;
    for (Worker worker : workers) {
      LockSupport.unpark(worker);
      while (worker.isAlive()) {
        try {
          worker.join();
        } catch (InterruptedException e) {
          interrupted = true;
        }
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private final class Worker extends Thread {
    private final int number;
    volatile boolean parked;

    Worker(String name, int number) {
      super(name);
      this.number = number;
      setDaemon(true);
    }

    @Override
    public void run() {
      Job last = null;
      while (!closed) {
        Job job = current;
        if (job == last) {
          job = awaitJob(last);
        }
        if (job != null && job != last) {
          job.work(number);
          last = job;
        }
      }
    }

    private Job awaitJob(Job last) {
      long spinEnd = System.nanoTime() + SPIN_NANOS;
      do {
        for (int i = 0; i < 32; i++) {
          if (current != last) {
            return current;
          }
          Thread.onSpinWait();
        }
      } while (System.nanoTime() - spinEnd < 0 && !closed);
      parked = true;
      try {
        while (current == last && !closed) {
          LockSupport.park(WorkerPool.this);
        }
      } finally {
        parked = false;
      }
      return current;
    }
  }
}
