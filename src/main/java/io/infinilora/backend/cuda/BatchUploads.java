package io.infinilora.backend.cuda;

import io.infinilora.backend.BatchLayout;

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
    int rows = bucket == null ? batch.rows() : bucket.rows();
    int sequences = bucket == null ? batch.sequences() : bucket.rows();
    int stride = bucket == null ? longest(batch) : bucket.tableStride();
    int tokens = PART;
    int positions = tokens + rounded(rows);
    int sequence = positions + rounded(rows);
    int rowStart = sequence + rounded(rows);
    int tables = rowStart + rounded(sequences + 1);
    int[] values = new int[tables + sequences * stride];
    values[0] = batch.rows();
    System.arraycopy(batch.tokens(), 0, values, tokens, batch.rows());
    System.arraycopy(batch.positions(), 0, values, positions, batch.rows());
    for (int r = batch.rows(); r < rows; r++) {
      values[positions + r] = -1;
    }
    for (int s = 0; s < batch.sequences(); s++) {
      for (int r = batch.rowStart()[s]; r < batch.rowStart()[s + 1]; r++) {
        values[sequence + r] = s;
      }
      int[] table = batch.blockTables()[s];
      System.arraycopy(table, 0, values, tables + s * stride, table.length);
    }
    for (int r = batch.rows(); r < rows; r++) {
      values[sequence + r] = Math.min(r, sequences - 1);
    }
    for (int s = 0; s <= sequences; s++) {
      values[rowStart + s] = batch.rowStart()[Math.min(s, batch.sequences())];
    }
    long address =
        bucket == null
            ? stream.upload(ring, values)
            : stream.upload(values, 0, values.length, values.length);
    return new DeviceBatch(
        rows,
        sequences,
        address,
        address + 4L * tokens,
        address + 4L * positions,
        address + 4L * sequence,
        address + 4L * rowStart,
        address + 4L * tables,
        stride);
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
