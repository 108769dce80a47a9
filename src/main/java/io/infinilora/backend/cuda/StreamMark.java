package io.infinilora.backend.cuda;

import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.JCudaDriver;

/** A point in a stream's work that the host can wait for. The stream's thread only. */
final class StreamMark implements AutoCloseable {
  private final CudaStream stream;
  private final CUevent event = new CUevent();
  private boolean recorded;

  StreamMark(CudaStream stream) {
    this.stream = stream;
    stream
        .device()
        .check(
            JCudaDriver.cuEventCreate(event, CUevent_flags.CU_EVENT_DISABLE_TIMING),
            "cuEventCreate");
  }

  /** Puts it behind everything that was called so far. */
  void record() {
    stream.device().check(JCudaDriver.cuEventRecord(event, stream.stream()), "cuEventRecord");
    recorded = true;
  }

  /** Waits until the stream has passed it; at once if it was never recorded. */
  void await() {
    if (recorded) {
      stream.device().check(JCudaDriver.cuEventSynchronize(event), "cuEventSynchronize");
    }
  }

  @Override
  public void close() {
    if (stream.device().lost() == null) {
      stream.device().check(JCudaDriver.cuEventDestroy(event), "cuEventDestroy");
    }
  }
}
