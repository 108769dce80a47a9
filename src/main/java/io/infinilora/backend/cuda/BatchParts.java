package io.infinilora.backend.cuda;

import io.infinilora.backend.BatchLayout;
import java.util.Arrays;

/**
 * A step's layout as one array of int32: the number of rows, tokens, positions, sequences, first
 * rows, rows of logits, tables; each part begins at a multiple of 16 bytes.
 *
 * @param rows rows, padded ones included
 * @param sequences sequences, padded ones included
 * @param stride blocks of a row of the tables
 * @param tokens where the tokens begin, likewise the others
 */
record BatchParts(
    int rows,
    int sequences,
    int stride,
    int tokens,
    int positions,
    int sequence,
    int rowStart,
    int logitRows,
    int tables) {
  private static final int PART = 4;

  /** As large as the batch. */
  static BatchParts of(BatchLayout batch) {
    int most = 1;
    for (int[] table : batch.blockTables()) {
      most = Math.max(most, table.length);
    }
    return of(batch.rows(), batch.sequences(), most, batch.logitRows().length);
  }

  /** As large as any batch of a bucket. */
  static BatchParts of(StepBucket bucket) {
    return of(bucket.rows(), bucket.rows(), bucket.tableStride(), bucket.rows());
  }

  private static BatchParts of(int rows, int sequences, int stride, int logits) {
    int tokens = PART;
    int positions = tokens + rounded(rows);
    int sequence = positions + rounded(rows);
    int rowStart = sequence + rounded(rows);
    int logitRows = rowStart + rounded(sequences + 1);
    int tables = logitRows + rounded(logits);
    return new BatchParts(
        rows, sequences, stride, tokens, positions, sequence, rowStart, logitRows, tables);
  }

  private static int rounded(int count) {
    return (count + PART - 1) / PART * PART;
  }

  /** Elements of the array. */
  int size() {
    return tables + sequences * stride;
  }

  /** Where the table of a sequence begins. */
  int table(int sequence) {
    return tables + sequence * stride;
  }

  /**
   * Writes a batch.
   *
   * @param values {@link #size} elements, of which nothing remains
   */
  void fill(BatchLayout batch, int[] values) {
    Arrays.fill(values, 0);
    values[0] = batch.rows();
    System.arraycopy(batch.tokens(), 0, values, tokens, batch.rows());
    System.arraycopy(batch.positions(), 0, values, positions, batch.rows());
    Arrays.fill(values, positions + batch.rows(), positions + rows, -1);
    for (int s = 0; s < batch.sequences(); s++) {
      Arrays.fill(values, sequence + batch.rowStart()[s], sequence + batch.rowStart()[s + 1], s);
      int[] table = batch.blockTables()[s];
      System.arraycopy(table, 0, values, table(s), table.length);
    }
    for (int s = 0; s <= sequences; s++) {
      values[rowStart + s] = batch.rowStart()[Math.min(s, batch.sequences())];
    }
    Arrays.fill(values, logitRows, tables, -1);
    System.arraycopy(batch.logitRows(), 0, values, logitRows, batch.logitRows().length);
  }

  /** The array's copy on the device. */
  DeviceBatch at(long address) {
    return new DeviceBatch(
        rows,
        sequences,
        address,
        address + (long) Integer.BYTES * tokens,
        address + (long) Integer.BYTES * positions,
        address + (long) Integer.BYTES * sequence,
        address + (long) Integer.BYTES * rowStart,
        address + (long) Integer.BYTES * tables,
        stride,
        address + (long) Integer.BYTES * logitRows);
  }
}
