package io.infinilora.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import jcuda.driver.CUresult;
import jcuda.driver.JCudaDriver;

/**
 * Page-locked host memory that is quickly made: the driver takes several times as long for memory
 * of its own as to lock ours. Belongs to one thread at a time.
 */
final class StagingMemory implements AutoCloseable {
  private static final long PAGE = 4096;

  private final CudaDevice device;
  private final Arena arena = Arena.ofShared();
  private final MemorySegment segment;

  /** What the driver gave instead; null if ours could be locked. */
  private final PinnedMemory driversOwn;

  StagingMemory(CudaDevice device, long bytes) {
    this.device = device;
    device.makeCurrent();
    MemorySegment own = arena.allocate(bytes, PAGE);
    int status =
        JCudaDriver.cuMemHostRegister(
            new HostPointer(own), bytes, JCudaDriver.CU_MEMHOSTREGISTER_PORTABLE);
    driversOwn = status == CUresult.CUDA_SUCCESS ? null : device.pinned(bytes);
    segment = driversOwn == null ? own : driversOwn.segment();
  }

  MemorySegment segment() {
    return segment;
  }

  /** Frees it; no stream may use it any more. */
  @Override
  public void close() {
    if (driversOwn != null) {
      driversOwn.close();
    } else {
      device.release(
          () ->
              device.check(
                  JCudaDriver.cuMemHostUnregister(new HostPointer(segment)),
                  "cuMemHostUnregister"));
    }
    arena.close();
  }
}
