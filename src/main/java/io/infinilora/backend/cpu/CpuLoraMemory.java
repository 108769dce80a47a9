package io.infinilora.backend.cpu;

import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraMemory;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.BitSet;

/**
 * Pages in chunks that are allocated when first needed and stay. The lowest free pages are taken
 * first, so that no chunk is begun while another has room.
 */
final class CpuLoraMemory implements LoraMemory {
  /** Pages of a chunk: 16 MiB. */
  private static final int CHUNK_PAGES = (16 << 20) / LoraLayout.PAGE_BYTES;

  private final CpuBackend owner;
  private final int pages;
  private final Arena arena = Arena.ofShared();

  /** Guarded by itself, which is held while memory is zeroed: loading threads only. */
  private final MemorySegment[] chunks;

  /** Pages in use; guards itself and {@link #used}. Never held for long: drivers free. */
  private final BitSet taken = new BitSet();

  private int used;

  CpuLoraMemory(CpuBackend owner, long bytes) {
    if (bytes < 0 || bytes / LoraLayout.PAGE_BYTES > Integer.MAX_VALUE) {
      throw new IllegalArgumentException("no adapter memory can have " + bytes + " bytes");
    }
    this.owner = owner;
    pages = (int) (bytes / LoraLayout.PAGE_BYTES);
    chunks = new MemorySegment[Math.ceilDiv(pages, CHUNK_PAGES)];
  }

  CpuBackend owner() {
    return owner;
  }

  boolean open() {
    return arena.scope().isAlive();
  }

  /** Bytes that were allocated so far. */
  long allocated() {
    synchronized (chunks) {
      long sum = 0;
      for (MemorySegment chunk : chunks) {
        sum += chunk == null ? 0 : chunk.byteSize();
      }
      return sum;
    }
  }

  @Override
  public long pageBytes() {
    return LoraLayout.PAGE_BYTES;
  }

  @Override
  public int pages() {
    return pages;
  }

  @Override
  public int freePages() {
    synchronized (taken) {
      return pages - used;
    }
  }

  @Override
  public LoraLayer load(LoraImage image) {
    if (!(image instanceof CpuLoraImage source) || source.owner() != owner) {
      throw new IllegalArgumentException("the image belongs to another backend");
    }
    owner.checkOpen();
    int[] numbers = take(source.pages());
    boolean complete = false;
    try {
      long[] addresses = new long[numbers.length];
      for (int i = 0; i < numbers.length; i++) {
        MemorySegment page = page(numbers[i]);
        page.copyFrom(source.packed().page(i));
        addresses[i] = page.address();
      }
      LoraLayer layer =
          new CpuLoraLayer(this, numbers, source, new PageTable(addresses, owner.zeros()));
      complete = true;
      return layer;
    } finally {
      if (!complete) {
        synchronized (taken) {
          giveBack(numbers);
        }
      }
    }
  }

  private int[] take(int count) {
    int[] numbers = new int[count];
    synchronized (taken) {
      if (count > pages - used) {
        throw new IllegalStateException(
            "a layer of %d pages, but %d of %d are free".formatted(count, pages - used, pages));
      }
      int at = 0;
      for (int i = 0; i < count; i++) {
        at = taken.nextClearBit(at);
        taken.set(at);
        numbers[i] = at;
      }
      used += count;
    }
    return numbers;
  }

  private void giveBack(int[] numbers) {
    for (int number : numbers) {
      taken.clear(number);
    }
    used -= numbers.length;
  }

  private MemorySegment page(int number) {
    int c = number / CHUNK_PAGES;
    synchronized (chunks) {
      if (chunks[c] == null) {
        long size = Math.min(CHUNK_PAGES, pages - c * CHUNK_PAGES);
        chunks[c] = arena.allocate(size * LoraLayout.PAGE_BYTES, Memory.ALIGNMENT);
      }
      long from = (long) (number % CHUNK_PAGES) * LoraLayout.PAGE_BYTES;
      return chunks[c].asSlice(from, LoraLayout.PAGE_BYTES);
    }
  }

  @Override
  public void free(LoraLayer layer) {
    if (!(layer instanceof CpuLoraLayer held) || held.memory() != this) {
      throw new IllegalArgumentException("the layer is in another memory");
    }
    synchronized (taken) {
      if (!held.alive()) {
        throw new IllegalStateException("the layer was freed before");
      }
      held.end();
      giveBack(held.numbers());
    }
  }

  @Override
  public void close() {
    synchronized (taken) {
      if (open()) {
        arena.close();
      }
    }
  }
}
