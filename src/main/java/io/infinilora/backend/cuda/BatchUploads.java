package io.infinilora.backend.cuda;

import io.infinilora.backend.BatchLayout;

/** Brings a step's layout to the device, once per step. The stream's thread only. */
final class BatchUploads implements AutoCloseable {
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
    BatchParts parts = bucket == null ? BatchParts.of(batch) : BatchParts.of(bucket);
    int[] values = new int[parts.size()];
    parts.fill(batch, values);
    long address =
        bucket == null
            ? stream.upload(ring, values)
            : stream.upload(values, 0, values.length, values.length);
    return parts.at(address);
  }

  @Override
  public void close() {
    ring.close();
  }
}
