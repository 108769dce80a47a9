package io.infinilora.backend.cuda;

/**
 * Tiles that the host made: some rows of an adapter, and the names of its tables. In memory, the
 * rows of all tiles, then all names of the first table, and so on.
 */
final class LoraTiles {
  private final int names;
  private final int capacity;
  private final long[] values;
  private int count;

  /**
   * @param names tables per tile
   * @param capacity tiles at most
   */
  LoraTiles(int names, int capacity) {
    this.names = names;
    this.capacity = capacity;
    values = new long[(1 + names) * capacity];
  }

  /** Cuts rows evenly into tiles of at most {@code most}. */
  void add(int firstRow, int rows, int most, long... tables) {
    int size = LoraTiling.evenRows(rows, most);
    for (int r = 0; r < rows; r += size) {
      values[count] = (firstRow + r) | (long) Math.min(size, rows - r) << 32;
      for (int n = 0; n < names; n++) {
        values[(1 + n) * capacity + count] = tables[n];
      }
      count++;
    }
  }

  int capacity() {
    return capacity;
  }

  /** Whether there is none. */
  boolean isEmpty() {
    return count == 0;
  }

  /** The array as it is uploaded; not to be written. */
  long[] values() {
    return values;
  }

  /** The tiles on the device, once they are at an address. */
  DeviceTiles at(long address) {
    return new DeviceTiles(address, address + 8L * capacity, capacity);
  }
}
