package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import jcuda.driver.CUevent;
import jcuda.driver.CUevent_flags;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.JCudaDriver;

/** Page-locked memory to copy from, and the end of the last copy. One thread at a time. */
final class CopyBuffer implements AutoCloseable {
  private final CudaDevice device;
  private final MemorySegment memory;
  private final CUevent copied = new CUevent();

  /**
   * A buffer.
   *
   * @param memory page-locked, for as long as copies are under way
   */
  CopyBuffer(CudaDevice device, MemorySegment memory) {
    this.device = device;
    this.memory = memory;
    device.check(
        JCudaDriver.cuEventCreate(copied, CUevent_flags.CU_EVENT_DISABLE_TIMING), "cuEventCreate");
  }

  /** Its memory, once the last copy has read it. */
  MemorySegment writable() {
    await();
    return memory;
  }

  /** Copies its first bytes to the device, after what was given to the stream before. */
  void send(long address, long bytes, CUstream stream) {
    int status =
        JCudaDriver.cuMemcpyHtoDAsync(
            new DevicePointer(address), new HostPointer(memory), bytes, stream);
    if (status != CUresult.CUDA_SUCCESS) {
      device.check(status, "cuMemcpyHtoDAsync(%d bytes)".formatted(bytes));
    }
    device.check(JCudaDriver.cuEventRecord(copied, stream), "cuEventRecord");
  }

  /** Waits for the last copy; at once if there was none. */
  void await() {
    device.check(JCudaDriver.cuEventSynchronize(copied), "cuEventSynchronize");
  }

  @Override
  public void close() {
    if (device.lost() == null) {
      device.check(JCudaDriver.cuEventDestroy(copied), "cuEventDestroy");
    }
  }
}
