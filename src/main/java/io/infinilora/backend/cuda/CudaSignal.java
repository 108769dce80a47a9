package io.infinilora.backend.cuda;

import io.infinilora.backend.Signal;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.VarHandle;
import java.util.concurrent.locks.LockSupport;

/**
 * A counter in pinned host memory, which host threads and kernels raise. Host threads wait for it:
 * they spin, then look again every few microseconds, since no kernel can wake a thread.
 */
final class CudaSignal implements Signal {
  private static final long SPIN_NANOS = 200_000;
  private static final long PARK_NANOS = 20_000;
  private static final VarHandle COUNTER = ValueLayout.JAVA_LONG.varHandle();

  private final CudaBackend owner;
  private final MemorySegment memory;

  /**
   * A signal in 8 aligned bytes of pinned memory that are 0.
   *
   * @param memory lives as long as the backend
   */
  CudaSignal(CudaBackend owner, MemorySegment memory) {
    this.owner = owner;
    this.memory = memory;
  }

  CudaBackend owner() {
    return owner;
  }

  long address() {
    return memory.address();
  }

  @Override
  public void release(long value) {
    COUNTER.setRelease(memory, 0L, value);
  }

  @Override
  public long value() {
    return (long) COUNTER.getAcquire(memory, 0L);
  }

  @Override
  public boolean await(long value, long deadlineNanos) {
    long spinEnd = System.nanoTime() + SPIN_NANOS;
    while (value() < value) {
      long now = System.nanoTime();
      if (now - deadlineNanos >= 0 || Thread.currentThread().isInterrupted()) {
        return false;
      }
      if (now - spinEnd < 0) {
        Thread.onSpinWait();
      } else {
        LockSupport.parkNanos(this, PARK_NANOS);
      }
    }
    return true;
  }
}
