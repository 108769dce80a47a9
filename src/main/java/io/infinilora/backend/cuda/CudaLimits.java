package io.infinilora.backend.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;
import jcuda.driver.CUevent;
import jcuda.driver.JCudaDriver;

/** What a device can do at most, measured: the yardstick of benchmarks. */
public final class CudaLimits {
  private static final long COPY_BYTES = 2L << 30;
  private static final long UPLOAD_BYTES = 256L << 20;
  private static final int REPEATS = 10;
  private static final int MATRIX = 8192;

  private CudaLimits() {}

  /**
   * Bytes per second, read and written together, of large copies within the device's memory.
   *
   * @param backend has 4 GiB free
   */
  public static double copyBandwidth(CudaBackend backend) {
    CudaDevice device = backend.device();
    try (CudaStream stream = new CudaStream(device);
        DeviceMemory from = device.allocate(COPY_BYTES, "benchmark");
        DeviceMemory to = device.allocate(COPY_BYTES, "benchmark")) {
      double seconds =
          best(
              stream,
              () ->
                  device.check(
                      JCudaDriver.cuMemcpyDtoDAsync(
                          new DevicePointer(to.address()),
                          new DevicePointer(from.address()),
                          COPY_BYTES,
                          stream.stream()),
                      "cuMemcpyDtoDAsync"));
      return 2 * COPY_BYTES / seconds;
    }
  }

  /**
   * Bytes per second of copies from pinned memory to the device.
   *
   * @param backend has 256 MiB free
   */
  public static double uploadBandwidth(CudaBackend backend) {
    CudaDevice device = backend.device();
    try (CudaStream stream = new CudaStream(device);
        PinnedMemory from = device.pinned(UPLOAD_BYTES);
        DeviceMemory to = device.allocate(UPLOAD_BYTES, "benchmark")) {
      double seconds =
          best(stream, () -> stream.copyToDevice(from.address(), to.address(), UPLOAD_BYTES));
      return UPLOAD_BYTES / seconds;
    }
  }

  /**
   * Floating-point operations per second of a square product of bf16 matrices.
   *
   * @param backend has 1 GiB free
   */
  public static double matrixRate(CudaBackend backend) {
    CudaDevice device = backend.device();
    CudaTensor x = (CudaTensor) backend.tensor(MATRIX, MATRIX);
    CudaTensor y = (CudaTensor) backend.tensor(MATRIX, MATRIX);
    try (CudaStream stream = new CudaStream(device);
        ManyRowsMatrix many = ManyRowsMatrix.open(stream);
        DeviceMemory weights = device.allocate(2L * MATRIX * MATRIX, "benchmark")) {
      fill(device, x.address(), 2L * MATRIX * MATRIX);
      fill(device, weights.address(), 2L * MATRIX * MATRIX);
      double seconds =
          best(stream, () -> many.multiply(x, MATRIX, weights.address(), 0, MATRIX, MATRIX, y));
      return 2.0 * MATRIX * MATRIX * MATRIX / seconds;
    }
  }

  /** Random numbers from -1 to 1: zeros are multiplied faster, since they take less power. */
  private static void fill(CudaDevice device, long address, long bytes) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocate(bytes, 64);
      SplittableRandom random = new SplittableRandom(1);
      for (long at = 0; at < bytes; at += Short.BYTES) {
        float value = (float) (2 * random.nextDouble() - 1);
        values.set(ValueLayout.JAVA_SHORT, at, (short) (Float.floatToRawIntBits(value) >>> 16));
      }
      device.upload(values, address);
    }
  }

  /** Seconds of the fastest of a few runs. */
  private static double best(CudaStream stream, Runnable work) {
    CUevent begin = new CUevent();
    CUevent end = new CUevent();
    CudaDevice device = stream.device();
    device.check(JCudaDriver.cuEventCreate(begin, 0), "cuEventCreate");
    device.check(JCudaDriver.cuEventCreate(end, 0), "cuEventCreate");
    double best = Double.POSITIVE_INFINITY;
    for (int i = 0; i < REPEATS; i++) {
      device.check(JCudaDriver.cuEventRecord(begin, stream.stream()), "cuEventRecord");
      work.run();
      device.check(JCudaDriver.cuEventRecord(end, stream.stream()), "cuEventRecord");
      stream.synchronize();
      float[] millis = new float[1];
      device.check(JCudaDriver.cuEventElapsedTime(millis, begin, end), "cuEventElapsedTime");
      best = Math.min(best, millis[0] / 1e3);
    }
    device.check(JCudaDriver.cuEventDestroy(begin), "cuEventDestroy");
    device.check(JCudaDriver.cuEventDestroy(end), "cuEventDestroy");
    return best;
  }
}
