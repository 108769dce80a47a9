package io.infinilora.backend.cuda;

import java.util.BitSet;

/** Which pages of a memory hold something. Thread-safe. */
final class LoraPages {
  private final int pages;
  private final BitSet taken = new BitSet();
  private int used;

  LoraPages(int pages) {
    this.pages = pages;
  }

  int pages() {
    return pages;
  }

  synchronized int free() {
    return pages - used;
  }

  /**
   * Takes the lowest free pages, so that neighbours are often taken together.
   *
   * @throws IllegalStateException if there are not so many
   */
  synchronized int[] take(int count) {
    if (count > pages - used) {
      throw new IllegalStateException(
          "a layer of %d pages, but %d of %d are free".formatted(count, pages - used, pages));
    }
    int[] numbers = new int[count];
    int at = 0;
    for (int i = 0; i < count; i++) {
      at = taken.nextClearBit(at);
      taken.set(at);
      numbers[i] = at;
    }
    used += count;
    return numbers;
  }

  synchronized void giveBack(int[] numbers) {
    for (int number : numbers) {
      taken.clear(number);
    }
    used -= numbers.length;
  }
}
