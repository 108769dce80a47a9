package io.infinilora.backend.cuda;

import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import jcuda.driver.JCudaDriver;

/** Temporary: converts on the host, copies at once. */
final class WeightUploader {
  private final CudaDevice device;

  WeightUploader(CudaDevice device) {
    this.device = device;
  }

  private static float value(MemorySegment data, io.infinilora.core.DType type, long i) {
    return switch (type) {
      case F32 -> data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * i);
      case F16 -> Float.float16ToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * i));
      case BF16 -> Float.intBitsToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * i) << 16);
      default -> throw new IllegalArgumentException("quantised");
    };
  }

  void floats(TensorView view, long address) {
    int n = (int) view.elements();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(4L * n, 16);
      for (int i = 0; i < n; i++) {
        out.set(ValueLayout.JAVA_FLOAT, 4L * i, value(view.data(), view.dtype(), i));
      }
      device.upload(out, address);
    }
  }

  void matrix(WeightMatrix matrix, long address, int stride) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(2L * matrix.rows() * stride, 16);
      for (int r = 0; r < matrix.rows(); r++) {
        long first = matrix.element(r);
        if (matrix.dtype() == io.infinilora.core.DType.BF16 && matrix.contiguous()) {
          MemorySegment.copy(
              matrix.tensor().data(), 2 * first, out, 2L * r * stride, 2L * matrix.cols());
          continue;
        }
        for (int c = 0; c < matrix.cols(); c++) {
          float v = value(matrix.tensor().data(), matrix.dtype(), first + c * matrix.colStride());
          int bits = Float.floatToRawIntBits(v);
          out.set(
              ValueLayout.JAVA_SHORT,
              2L * (r * (long) stride + c),
              (short) ((bits + 0x7FFF + ((bits >>> 16) & 1)) >>> 16));
        }
      }
      device.upload(out, address);
    }
  }

  void copy(long from, long to, long bytes) {
    device.makeCurrent();
    device.check(
        JCudaDriver.cuMemcpyDtoD(new DevicePointer(to), new DevicePointer(from), bytes),
        "cuMemcpyDtoD");
  }
}
