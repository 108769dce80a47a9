package io.infinilora.backend.cuda;

/**
 * What decode steps that share a recording have in common.
 *
 * @param rows rows after padding
 * @param tableStride KV blocks per sequence after padding
 */
record StepBucket(int rows, int tableStride) {
  /** Most rows of a recorded step. */
  static final int MAX_ROWS = 256;

  private static final int[] ROWS = {
    1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160,
    192, 224, MAX_ROWS
  };

  /** Fewest KV blocks of a table. */
  private static final int MIN_BLOCKS = 16;

  /** The smallest bucket for so many rows, at most {@link #MAX_ROWS}, and KV blocks. */
  static StepBucket of(int rows, int blocks) {
    int at = 0;
    while (ROWS[at] < rows) {
      at++;
    }
    int stride = MIN_BLOCKS;
    while (stride < blocks) {
      stride *= 2;
    }
    return new StepBucket(ROWS[at], stride);
  }
}
