package io.infinilora.backend;

/**
 * Rows grouped by adapter, so that the rows of one adapter share one read of its weights.
 *
 * @param rows row numbers, group after group
 * @param starts first index into {@code rows} of each group, plus the total: length {@code groups +
 *     1}
 */
public record RowGroups(int[] rows, int[] starts) {
  /** Number of groups. */
  public int groups() {
    return starts.length - 1;
  }
}
