package io.infinilora.backend.cuda;

import io.infinilora.backend.BatchLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;

/**
 * The batch in the host memory from which recorded steps take it. From step to step only what
 * differs is written: that memory's lines were read by the device and are slow to get back.
 */
final class BatchImage {
  private final BatchParts parts;
  private final MemorySegment memory;

  /** What the memory holds; null before the first step. */
  private int[] values;

  /** Blocks of each table. */
  private final int[] lengths;

  /**
   * An image that holds nothing yet.
   *
   * @param memory of {@link BatchParts#size} int32; others may write to its elements 1 to 3
   */
  BatchImage(BatchParts parts, MemorySegment memory) {
    this.parts = parts;
    this.memory = memory;
    lengths = new int[parts.sequences()];
  }

  /**
   * Writes a step.
   *
   * @param batch one row per sequence, always as many
   */
  void write(BatchLayout batch) {
    int[][] tables = batch.blockTables();
    if (values == null) {
      values = new int[parts.size()];
      parts.fill(batch, values);
      MemorySegment.copy(values, 0, memory, ValueLayout.JAVA_INT, 0, values.length);
    } else {
      put(batch.tokens(), parts.tokens());
      put(batch.positions(), parts.positions());
      put(batch.logitRows(), parts.logitRows());
      for (int s = 0; s < tables.length; s++) {
        put(tables[s], parts.table(s));
        if (tables[s].length < lengths[s]) {
          put(new int[lengths[s] - tables[s].length], parts.table(s) + tables[s].length);
        }
      }
    }
    for (int s = 0; s < tables.length; s++) {
      lengths[s] = tables[s].length;
    }
  }

  /** Writes from the first element on that is not there yet. */
  private void put(int[] part, int at) {
    int same = Arrays.mismatch(part, 0, part.length, values, at, at + part.length);
    if (same >= 0) {
      int count = part.length - same;
      System.arraycopy(part, same, values, at + same, count);
      MemorySegment.copy(
          part, same, memory, ValueLayout.JAVA_INT, (long) Integer.BYTES * (at + same), count);
    }
  }
}
