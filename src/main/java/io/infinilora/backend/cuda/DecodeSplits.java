package io.infinilora.backend.cuda;

/**
 * How the keys of a decode row are shared by blocks. It follows from the step's bucket alone; how
 * many of the splits a row uses follows, on the device, from its position.
 *
 * @param most splits of a row
 * @param part tiles that a split has at least
 */
record DecodeSplits(int most, int part) {
  /** Keys of a tile. */
  static final int KEYS = 16;

  /** One for each warp of a block. */
  private static final int LEAST_PART = 4;

  /** Tiles of a split that need not be cut further to balance long and short rows. */
  private static final int BALANCED_PART = 128;

  /** What attention_combine has room for. */
  private static final int MOST = 256;

  /** Most tiles of a row that sees {@code positions} positions or those of its window. */
  static int tiles(int positions, int window) {
    // A window may begin and end inside a tile.
    return window == 0 || positions <= window
        ? Math.ceilDiv(positions, KEYS)
        : Math.min(Math.ceilDiv(positions, KEYS), Math.ceilDiv(window, KEYS) + 1);
  }

  /**
   * Splits that fill the device once, but none so long that the others wait for it.
   *
   * @param tiles of the longest row that the bucket allows
   * @param blocks if there were one split
   * @param slots blocks that run at a time
   */
  static DecodeSplits of(int tiles, long blocks, long slots) {
    long wanted = Math.max(1, slots / blocks);
    long longest = Math.max(BALANCED_PART, BALANCED_PART * blocks / slots);
    long part = Math.max(LEAST_PART, Math.min(longest, Math.ceilDiv((long) tiles, wanted)));
    part = Math.max(part, Math.ceilDiv(tiles, MOST));
    return new DecodeSplits((int) Math.ceilDiv((long) tiles, part), (int) part);
  }
}
