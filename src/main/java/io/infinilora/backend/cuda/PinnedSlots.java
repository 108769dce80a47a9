package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;

/** Hands out pinned cache lines, from chunks that live as long as the device. Thread-safe. */
final class PinnedSlots {
  private static final long SLOT_BYTES = 128;
  private static final long CHUNK_BYTES = 64 << 10;

  private final CudaDevice device;
  private MemorySegment chunk = MemorySegment.NULL;
  private long offset;

  PinnedSlots(CudaDevice device) {
    this.device = device;
  }

  /** A zeroed line that nothing else shares. */
  synchronized MemorySegment next() {
    if (offset + SLOT_BYTES > chunk.byteSize()) {
      chunk = device.pinned(CHUNK_BYTES).segment();
      offset = 0;
    }
    MemorySegment slot = chunk.asSlice(offset, SLOT_BYTES);
    offset += SLOT_BYTES;
    return slot;
  }
}
