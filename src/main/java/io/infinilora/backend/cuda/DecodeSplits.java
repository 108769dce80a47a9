package io.infinilora.backend.cuda;

/**
 * How the keys of a decode row are shared by blocks. It follows from the step's bucket alone; how
 * many of the splits a row uses follows, on the device, from its position.
 *
 * @param most splits of a row
 * @param part tiles that a split has at least
 * @param together whether the splits of a row are to be a cluster
 */
record DecodeSplits(int most, int part, boolean together) {
  /** Keys of a tile. */
  static final int KEYS = 16;

  /** Blocks of a cluster that need not wait for a place: it lies in one part of the device. */
  private static final int CLUSTER = 8;

  /** Tiles of a split that are worth a kernel which combines more splits than a cluster has. */
  private static final int LONG_PART = 32;

  /** Tiles of a split that need not be cut further to balance long and short rows. */
  private static final int BALANCED_PART = 128;

  /** What attention_combine has room for. */
  private static final int MOST = 256;

  /**
   * What one block does well.
   *
   * @param leastPart tiles below which a split costs more than it saves
   * @param cluster most splits that are worth a cluster
   */
  record Shape(int leastPart, int cluster) {}

  /** Most tiles of a row that sees {@code positions} positions or those of its window. */
  static int tiles(int positions, int window) {
    // A window may begin and end inside a tile.
    return window == 0 || positions <= window
        ? Math.ceilDiv(positions, KEYS)
        : Math.min(Math.ceilDiv(positions, KEYS), Math.ceilDiv(window, KEYS) + 1);
  }

  /**
   * A few rows become clusters that fill half of the device: one that fills it has to wait for
   * places. Long ones of few rows fill it, and a kernel combines them. Many rows are only cut to
   * balance them.
   *
   * @param tiles of the longest row that the bucket allows
   * @param blocks if there were one split
   * @param slots blocks that run at a time
   */
  static DecodeSplits of(Shape shape, int tiles, long blocks, long slots) {
    long full = Math.min(slots / blocks, tiles / LONG_PART);
    if (full > CLUSTER) {
      long most = Math.min(full, MOST);
      return new DecodeSplits((int) most, LONG_PART, false);
    }
    long few = Math.min(slots / 2 / blocks, tiles / shape.leastPart());
    few = Math.clamp(few, 1, shape.cluster());
    long longest = Math.max(BALANCED_PART, BALANCED_PART * blocks / slots);
    longest = Math.max(longest, Math.ceilDiv(tiles, MOST));
    if (tiles > few * longest) {
      return new DecodeSplits((int) Math.ceilDiv(tiles, longest), (int) longest, false);
    }
    return new DecodeSplits((int) few, shape.leastPart(), few > 1);
  }
}
