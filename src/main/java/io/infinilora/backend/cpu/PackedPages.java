package io.infinilora.backend.cpu;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/** A packed {@link LoraLayout} in memory of its own, its pages adjacent, the last one cut short. */
final class PackedPages implements LoraResidence {
  private final Arena arena = Arena.ofShared();
  private final MemorySegment memory;
  private final int pages;

  PackedPages(LoraLayout layout) {
    pages = layout.pages();
    boolean complete = false;
    try {
      memory = arena.allocate(layout.extent(), Memory.ALIGNMENT);
      LoraPacker.pack(layout, memory.address());
      complete = true;
    } finally {
      if (!complete) {
        arena.close();
      }
    }
  }

  int pages() {
    return pages;
  }

  long bytes() {
    return memory.byteSize();
  }

  /** The bytes of a page; fewer than its size if it is the last. */
  MemorySegment page(int page) {
    long from = (long) page * LoraLayout.PAGE_BYTES;
    return memory.asSlice(from, Math.min(LoraLayout.PAGE_BYTES, memory.byteSize() - from));
  }

  /** For weights that are used where they were packed. */
  PageTable table(long zeros) {
    long[] addresses = new long[pages];
    Arrays.setAll(addresses, p -> memory.address() + (long) p * LoraLayout.PAGE_BYTES);
    return new PageTable(addresses, zeros);
  }

  @Override
  public boolean alive() {
    return arena.scope().isAlive();
  }

  /** Frees the memory; not twice. */
  void free() {
    arena.close();
  }
}
