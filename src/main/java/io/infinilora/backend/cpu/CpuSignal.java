package io.infinilora.backend.cpu;

import io.infinilora.backend.Signal;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.locks.LockSupport;

/** A counter in off-heap memory; waiters that gave up spinning are unparked by the release. */
final class CpuSignal implements Signal {
  /** How long a waiter may spin before it parks, in nanoseconds: about two wake-ups of a thread. */
  static final long SPIN_NANOS = 50_000;

  private static final VarHandle COUNTER = ValueLayout.JAVA_LONG.varHandle();

  private final MemorySegment memory;
  private final long spinNanos;
  private final ConcurrentLinkedQueue<Thread> parked = new ConcurrentLinkedQueue<>();

  /**
   * A signal in 8 aligned bytes that are 0 and share their cache line with nothing.
   *
   * @param memory must outlive the signal's use
   * @param spinNanos how long a waiter spins before it parks
   */
  CpuSignal(MemorySegment memory, long spinNanos) {
    this.memory = memory;
    this.spinNanos = spinNanos;
  }

  @Override
  public void release(long value) {
    // Volatile, not just release: the store must be ordered before the look at the parked threads,
    // as a waiter's registration is before its last look at the counter.
    COUNTER.setVolatile(memory, 0L, value);
    for (Thread waiter : parked) {
      LockSupport.unpark(waiter);
    }
  }

  @Override
  public long value() {
    return (long) COUNTER.getAcquire(memory, 0L);
  }

  @Override
  public boolean await(long value, long deadlineNanos) {
    if (value() >= value) {
      return true;
    }
    long now = System.nanoTime();
    long spinEnd = now + spinNanos;
    while (now - spinEnd < 0 && now - deadlineNanos < 0) {
      for (int i = 0; i < 32; i++) {
        if (value() >= value) {
          return true;
        }
        Thread.onSpinWait();
      }
      now = System.nanoTime();
    }
    return park(value, deadlineNanos);
  }

  private boolean park(long value, long deadlineNanos) {
    Thread self = Thread.currentThread();
    parked.add(self);
    try {
      while ((long) COUNTER.getVolatile(memory, 0L) < value) {
        long left = deadlineNanos - System.nanoTime();
        if (left <= 0 || self.isInterrupted()) {
          return false;
        }
        LockSupport.parkNanos(this, left);
      }
      return true;
    } finally {
      parked.remove(self);
    }
  }
}
