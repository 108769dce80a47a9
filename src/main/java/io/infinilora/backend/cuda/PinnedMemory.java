package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.util.concurrent.atomic.AtomicBoolean;

/** Page-locked host memory, which the device reads and writes at the same address. Thread-safe. */
final class PinnedMemory implements AutoCloseable {
  private final CudaDevice device;
  private final MemorySegment segment;
  private final AtomicBoolean closed = new AtomicBoolean();

  PinnedMemory(CudaDevice device, MemorySegment segment) {
    this.device = device;
    this.segment = segment;
  }

  MemorySegment segment() {
    return segment;
  }

  /** Valid on the host and on the device. */
  long address() {
    return segment.address();
  }

  /** Frees it; no stream may use it any more. */
  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      device.free(this);
    }
  }
}
