package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * The buffers that one thread fills in turn: while it fills one, others travel. A buffer stays with
 * its thread, lest its lines wander between the cores' caches. One thread at a time.
 */
final class CopyBuffers implements AutoCloseable {
  private final List<CopyBuffer> buffers = new ArrayList<>();
  private int next;

  /**
   * Buffers of equal size.
   *
   * @param memory page-locked, for as long as copies are under way
   */
  CopyBuffers(CudaDevice device, int count, MemorySegment memory) {
    long bytes = memory.byteSize() / count;
    try {
      for (int i = 0; i < count; i++) {
        buffers.add(new CopyBuffer(device, memory.asSlice(i * bytes, bytes)));
      }
    } catch (RuntimeException | Error e) {
      close();
      throw e;
    }
  }

  /** The one that has been on its way for longest. */
  CopyBuffer next() {
    CopyBuffer buffer = buffers.get(next);
    next = (next + 1) % buffers.size();
    return buffer;
  }

  /** No copy may be under way. */
  @Override
  public void close() {
    buffers.forEach(CopyBuffer::close);
  }
}
