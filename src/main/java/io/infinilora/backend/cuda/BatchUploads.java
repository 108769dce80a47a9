package io.infinilora.backend.cuda;

import io.infinilora.backend.BatchLayout;
import java.util.Arrays;

/**
 * Brings a step's layout to the device, once per step. The stream's thread only.
 *
 * <p>One upload of int32: the number of rows, tokens, positions, sequences, first rows, tables;
 * each part begins at a multiple of 16 bytes.
 */
final class BatchUploads implements AutoCloseable {
  private static final int PART = 4;

  private final CudaStream stream;
  private final UploadRing ring;
  private BatchLayout last;
  private DeviceBatch onDevice;

  BatchUploads(CudaStream stream) {
    this.stream = stream;
    // Of its own: operators read it until the step ends, however much they upload themselves.
    ring = new UploadRing(stream);
  }

  /** Makes the next {@link #get} upload again, also for the same batch. */
  void reset() {
    last = null;
    onDevice = null;
  }

  /** The batch on the device; uploaded when it is first asked for. */
  DeviceBatch get(BatchLayout batch) {
    if (batch != last) {
      onDevice = upload(batch);
      last = batch;
    }
    return onDevice;
  }

  private DeviceBatch upload(BatchLayout batch) {
    StepBucket bucket = stream.recorder().bucket();
    Parts parts = bucket == null ? Parts.of(batch) : Parts.of(bucket);
    int[] values = new int[parts.size()];
    parts.fill(batch, values);
    long address =
        bucket == null
            ? stream.upload(ring, values)
            : stream.upload(values, 0, values.length, values.length);
    return new DeviceBatch(
        parts.rows,
        parts.sequences,
        address,
        address + 4L * parts.tokens,
        address + 4L * parts.positions,
        address + 4L * parts.sequence,
        address + 4L * parts.rowStart,
        address + 4L * parts.tables,
        parts.stride,
        address + 4L * parts.logitRows);
  }

  /** Values of an upload in a bucket. */
  static int size(StepBucket bucket) {
    return Parts.of(bucket).size();
  }

  /**
   * Writes what an upload of the batch in a bucket holds.
   *
   * @param values {@link #size} of them, of which nothing remains
   */
  static void fill(StepBucket bucket, BatchLayout batch, int[] values) {
    Parts.of(bucket).fill(batch, values);
  }

  /** Where each part begins. */
  private static final class Parts {
    private final int rows;
    private final int sequences;
    private final int stride;
    private final int tokens;
    private final int positions;
    private final int sequence;
    private final int rowStart;
    private final int logitRows;
    private final int tables;

    private Parts(int rows, int sequences, int stride, int logits) {
      this.rows = rows;
      this.sequences = sequences;
      this.stride = stride;
      tokens = PART;
      positions = tokens + rounded(rows);
      sequence = positions + rounded(rows);
      rowStart = sequence + rounded(rows);
      logitRows = rowStart + rounded(sequences + 1);
      tables = logitRows + rounded(logits);
    }

    static Parts of(BatchLayout batch) {
      return new Parts(batch.rows(), batch.sequences(), longest(batch), batch.logitRows().length);
    }

    static Parts of(StepBucket bucket) {
      return new Parts(bucket.rows(), bucket.rows(), bucket.tableStride(), bucket.rows());
    }

    int size() {
      return tables + sequences * stride;
    }

    void fill(BatchLayout batch, int[] values) {
      Arrays.fill(values, 0);
      values[0] = batch.rows();
      System.arraycopy(batch.tokens(), 0, values, tokens, batch.rows());
      System.arraycopy(batch.positions(), 0, values, positions, batch.rows());
      Arrays.fill(values, positions + batch.rows(), positions + rows, -1);
      for (int s = 0; s < batch.sequences(); s++) {
        Arrays.fill(values, sequence + batch.rowStart()[s], sequence + batch.rowStart()[s + 1], s);
        int[] table = batch.blockTables()[s];
        System.arraycopy(table, 0, values, tables + s * stride, table.length);
      }
      for (int s = 0; s <= sequences; s++) {
        values[rowStart + s] = batch.rowStart()[Math.min(s, batch.sequences())];
      }
      Arrays.fill(values, logitRows, tables, -1);
      System.arraycopy(batch.logitRows(), 0, values, logitRows, batch.logitRows().length);
    }
  }

  private static int longest(BatchLayout batch) {
    int most = 1;
    for (int[] table : batch.blockTables()) {
      most = Math.max(most, table.length);
    }
    return most;
  }

  private static int rounded(int count) {
    return (count + PART - 1) / PART * PART;
  }

  @Override
  public void close() {
    ring.close();
  }
}
