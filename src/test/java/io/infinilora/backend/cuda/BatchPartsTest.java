package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.BatchLayout;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

class BatchPartsTest {
  private static final BatchParts PARTS = BatchParts.of(new StepBucket(4, 16));

  @Test
  void partsBeginAtMultiplesOfSixteenBytes() {
    int[] values = new int[PARTS.size()];
    PARTS.fill(layout(7, 3), values);

    // Rows; tokens; positions; sequences; first rows; rows of logits; tables.
    assertThat(values).hasSize(4 + 4 + 4 + 4 + 8 + 4 + 4 * 16);
    assertThat(values)
        .startsWith(3, 0, 0, 0, 7, 8, 9, 0, 100, 101, 102, -1, 0, 1, 2, 0, 0, 1, 2, 3, 3, 0, 0, 0);
    assertThat(Arrays.copyOfRange(values, 24, 28)).containsExactly(0, 1, 2, -1);
    assertThat(Arrays.copyOfRange(values, 28, 31)).containsExactly(70, 71, 0);
    assertThat(Arrays.copyOfRange(values, 44, 47)).containsExactly(80, 81, 0);
  }

  @Test
  void nothingRemainsOfTheStepBefore() {
    int[] values = new int[PARTS.size()];
    PARTS.fill(layout(50, 4), values);
    PARTS.fill(layout(7, 2), values);

    int[] fresh = new int[PARTS.size()];
    PARTS.fill(layout(7, 2), fresh);
    assertThat(values).isEqualTo(fresh);
  }

  /** Rows of as many sequences, with two blocks each. */
  private static BatchLayout layout(int token, int rows) {
    int[] tokens = new int[rows];
    int[] positions = new int[rows];
    int[] starts = new int[rows + 1];
    int[][] tables = new int[rows][];
    int[] logits = new int[rows];
    for (int r = 0; r < rows; r++) {
      tokens[r] = token + r;
      positions[r] = 100 + r;
      starts[r + 1] = r + 1;
      tables[r] = new int[] {10 * (token + r), 10 * (token + r) + 1};
      logits[r] = r;
    }
    return new BatchLayout(tokens, positions, starts, tables, logits);
  }
}
