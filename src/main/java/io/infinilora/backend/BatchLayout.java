package io.infinilora.backend;

/**
 * How the rows of a step map to sequences. Rows of one sequence are consecutive and in order of
 * position; a decode row is a sequence with one row. The arrays are read during the step and must
 * not be changed.
 *
 * @param tokens token id of each row
 * @param positions position of each row in its sequence
 * @param rowStart first row of each sequence, plus the total as last element: length {@code
 *     sequences + 1}
 * @param blockTables KV blocks of each sequence, covering positions {@code 0 .. last position of
 *     its rows}
 * @param logitRows rows whose logits are wanted, ascending
 */
public record BatchLayout(
    int[] tokens, int[] positions, int[] rowStart, int[][] blockTables, int[] logitRows) {

  /** Number of rows. */
  public int rows() {
    return tokens.length;
  }

  /** Whether every sequence has exactly one row. */
  public boolean isDecode() {
    for (int s = 0; s < rowStart.length; s++) {
      if (rowStart[s] != s) {
        return false;
      }
    }
    return true;
  }

  /** Number of sequences. */
  public int sequences() {
    return blockTables.length;
  }
}
