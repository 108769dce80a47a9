package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;

/**
 * Pinned memory into which kernels write what the host waits for. Holds one operator's results at a
 * time: they are read before the operator returns. The stream's thread only.
 */
final class HostResults implements AutoCloseable {
  private static final long INITIAL_BYTES = 1L << 20;

  private final CudaStream stream;
  private PinnedMemory memory;

  HostResults(CudaStream stream) {
    this.stream = stream;
    memory = stream.device().pinned(INITIAL_BYTES);
  }

  /** Room for so many bytes; the address is valid on the host and on the device. */
  long reserve(long bytes) {
    if (bytes > memory.segment().byteSize()) {
      stream.synchronize();
      memory.close();
      memory = stream.device().pinned(Long.highestOneBit(bytes) * 2);
    }
    return memory.address();
  }

  /** Waits for the kernels; then the results are there. */
  MemorySegment await() {
    stream.synchronize();
    return memory.segment();
  }

  @Override
  public void close() {
    memory.close();
  }
}
