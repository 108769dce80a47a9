package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.Tensor;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Steps with larger tables of KV blocks than a recording has room for. */
class RecordedTablesTest extends OnGpu {
  private static final int ROWS = 256;

  /** Of a sequence: 131,072 positions. */
  private static final int BLOCKS = 8192;

  @Test
  void stepsOfManyRowsAndLongTablesRunAllTheSame() {
    int[] numbers = IntStream.range(0, ROWS).toArray();
    int[][] tables = new int[ROWS][1];
    tables[ROWS - 1] = new int[BLOCKS];
    BatchLayout batch =
        new BatchLayout(
            numbers, new int[ROWS], IntStream.rangeClosed(0, ROWS).toArray(), tables, numbers);
    Tensor x = backend.tensor(ROWS, 8);
    Tensor y = backend.tensor(ROWS, 8);
    double[][] ones = new double[ROWS][8];
    Arrays.stream(ones).forEach(row -> Arrays.fill(row, 1));
    for (int step = 1; step <= 3; step++) {
      write(ones, x);
      ops.step(batch, true, () -> ops.add(x, y));
      assertThat(download(y)[ROWS - 1]).containsOnly(step);
    }
  }
}
