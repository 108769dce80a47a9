package io.infinilora.backend.cuda;

import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;

/**
 * Tasks that are waited for together, and of which none is under way once the group is closed, so
 * that what they read may go. Belongs to one thread; the tasks run on others.
 */
final class TaskGroup implements AutoCloseable {
  private final Executor executor;

  // All guarded by this.
  private int added;
  private int left;
  private int running;
  private boolean closed;
  private Throwable fault;

  /** Number of the task that failed. */
  private int faulty = Integer.MAX_VALUE;

  TaskGroup(Executor executor) {
    this.executor = executor;
  }

  /**
   * Gives a task to the executor.
   *
   * @throws RejectedExecutionException if it takes none any more
   */
  void add(Runnable task) {
    int number;
    synchronized (this) {
      number = added++;
      left++;
    }
    try {
      executor.execute(() -> run(number, task));
    } catch (RejectedExecutionException e) {
      refused();
      throw e;
    }
  }

  private synchronized void refused() {
    left--;
    tell();
  }

  private void run(int number, Runnable task) {
    if (begins(number)) {
      Throwable thrown = null;
      try {
        task.run();
      } catch (RuntimeException | Error e) {
        thrown = e;
      }
      ended(number, thrown);
    }
  }

  /**
   * Whether a task is still wanted: those before a faulty one are, since the first fault counts.
   */
  private synchronized boolean begins(int number) {
    if (closed || number > faulty) {
      left--;
      tell();
      return false;
    }
    running++;
    return true;
  }

  private synchronized void ended(int number, Throwable thrown) {
    running--;
    left--;
    if (thrown != null && number < faulty) {
      faulty = number;
      fault = thrown;
    }
    tell();
  }

  private synchronized void tell() {
    if (left == 0 || running == 0) {
      notifyAll();
    }
  }

  /**
   * Waits for all tasks.
   *
   * @throws RuntimeException what the first of those threw that failed
   * @throws IllegalStateException if the thread is interrupted, and stays so
   */
  synchronized void await() {
    try {
      while (left > 0) {
        wait();
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while weights are loaded", e);
    }
    switch (fault) {
      case null -> {}
      case RuntimeException e -> throw e;
      default -> throw new IllegalStateException(fault);
    }
  }

  /** Lets no more tasks begin and waits for those under way, even if it is interrupted. */
  @Override
  public synchronized void close() {
    closed = true;
    boolean interrupted = false;
    while (running > 0) {
      try {
        wait();
      } catch (InterruptedException e) {
        interrupted = true;
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
