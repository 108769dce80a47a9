package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;

/**
 * Copies layers to the device, beside the streams that compute. One thread at a time: the bus is
 * shared anyway.
 */
final class LoraCopies implements AutoCloseable {
  private final CudaDevice device;
  private final CUstream stream = new CUstream();

  /** For tables; grows. */
  private PinnedMemory staging;

  LoraCopies(CudaDevice device) {
    this.device = device;
    device.makeCurrent();
    device.check(
        JCudaDriver.cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING),
        "cuStreamCreate");
  }

  /**
   * Copies a layer and waits for it.
   *
   * @param packed its matrices at their places
   * @param pages device address of each of its pages
   * @return its tables, as they were written
   */
  synchronized LoraTables copy(LoraLayout layout, MemorySegment packed, long[] pages) {
    LoraTables tables =
        new LoraTables(
            layout,
            place -> pages[(int) (place / LoraLayout.PAGE_BYTES)] + place % LoraLayout.PAGE_BYTES);
    device.makeCurrent();
    copy(packed, 0, pages);
    MemorySegment written = staging(layout.extent() - layout.tables());
    tables.write(written);
    copy(written, layout.tables(), pages);
    device.check(JCudaDriver.cuStreamSynchronize(stream), "cuStreamSynchronize");
    return tables;
  }

  private MemorySegment staging(long bytes) {
    if (staging == null || staging.segment().byteSize() < bytes) {
      if (staging != null) {
        staging.close();
        staging = null;
      }
      staging = device.pinned(2 * bytes);
    }
    MemorySegment part = staging.segment().asSlice(0, bytes);
    part.fill((byte) 0);
    return part;
  }

  /** Copies bytes to a place and what follows; neighbouring pages take one copy. */
  private void copy(MemorySegment from, long place, long[] pages) {
    long done = 0;
    while (done < from.byteSize()) {
      int page = (int) ((place + done) / LoraLayout.PAGE_BYTES);
      long within = (place + done) % LoraLayout.PAGE_BYTES;
      long size = LoraLayout.PAGE_BYTES - within;
      int last = page;
      while (size < from.byteSize() - done
          && pages[last + 1] == pages[last] + LoraLayout.PAGE_BYTES) {
        last++;
        size += LoraLayout.PAGE_BYTES;
      }
      size = Math.min(size, from.byteSize() - done);
      device.check(
          JCudaDriver.cuMemcpyHtoDAsync(
              new DevicePointer(pages[page] + within),
              new HostPointer(from.asSlice(done, size)),
              size,
              stream),
          "cuMemcpyHtoDAsync(%d bytes)".formatted(size));
      done += size;
    }
  }

  @Override
  public synchronized void close() {
    device.release(
        () -> {
          device.check(JCudaDriver.cuStreamDestroy(stream), "cuStreamDestroy");
          if (staging != null) {
            staging.close();
          }
        });
  }
}
