package io.infinilora.backend.reference;

import io.infinilora.backend.Precision;
import io.infinilora.core.DType;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Random;

/** Random tensors as a model file would hold them. */
public final class TestData {
  private final Random random;
  private final Precision precision;

  public TestData(long seed) {
    this(seed, Precision.FLOAT32);
  }

  /** Data whose matrices are exact in a backend's tensors. */
  public TestData(long seed, Precision precision) {
    random = new Random(seed);
    this.precision = precision;
  }

  /** Normally distributed, rounded to what tensors hold. */
  public double[][] matrix(int rows, int cols, double deviation) {
    double[][] m = new double[rows][cols];
    for (double[] row : m) {
      for (int c = 0; c < cols; c++) {
        row[c] = precision.rounded(random.nextGaussian() * deviation);
      }
    }
    return m;
  }

  /** A float32 tensor with these values. */
  public static TensorView f32(double[][] values) {
    int cols = values[0].length;
    MemorySegment data = MemorySegment.ofArray(new byte[4 * values.length * cols]);
    for (int r = 0; r < values.length; r++) {
      for (int c = 0; c < cols; c++) {
        data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * (r * cols + c), (float) values[r][c]);
      }
    }
    return view(DType.F32, values.length, cols, data);
  }

  /** A tensor of any type: small normal values, or random blocks with small scales. */
  public TensorView tensor(DType dtype, int rows, int cols) {
    byte[] bytes = new byte[Math.toIntExact(rows * dtype.bytes(cols))];
    MemorySegment data = MemorySegment.ofArray(bytes);
    if (dtype.quantised()) {
      random.nextBytes(bytes);
      for (int at = 0; at < bytes.length; at += dtype.blockBytes()) {
        switch (dtype) {
          case Q4_0, Q8_0 -> half(data, at, 0.02);
          case Q6_K -> half(data, at + 208, 0.0005);
          case MXFP4 -> bytes[at] = exponent();
          case FP4 -> {}
          case Q4_1 -> {
            half(data, at, 0.02);
            half(data, at + 2, -0.15);
          }
          default -> {
            half(data, at, 0.0008);
            half(data, at + 2, 0.004);
          }
        }
      }
    } else {
      for (int i = 0; i < rows * cols; i++) {
        float value = (float) (random.nextGaussian() * 0.1);
        switch (dtype) {
          case F32 -> data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * i, value);
          case F16 -> half(data, 2 * i, i % 7 == 0 ? value * 1e-5 : value);
          default ->
              data.set(
                  ValueLayout.JAVA_SHORT_UNALIGNED,
                  2L * i,
                  (short) (Float.floatToRawIntBits(value) >> 16));
        }
      }
    }
    return view(dtype, rows, cols, data);
  }

  /** A matrix of any type, with the scales that {@link DType#FP4} has beside it. */
  public WeightMatrix weights(DType dtype, int rows, int cols) {
    TensorView tensor = tensor(dtype, rows, cols);
    if (dtype != DType.FP4) {
      return WeightMatrix.of(tensor);
    }
    byte[] scales = new byte[rows * cols / dtype.blockElements()];
    for (int i = 0; i < scales.length; i++) {
      scales[i] = exponent();
    }
    return WeightMatrix.scaled(
        tensor, view(DType.U8, rows, cols / dtype.blockElements(), MemorySegment.ofArray(scales)));
  }

  /** E8M0 of a small scale. */
  private byte exponent() {
    return (byte) (119 + random.nextInt(3));
  }

  private void half(MemorySegment data, long at, double value) {
    double varied = value * (0.5 + random.nextDouble());
    data.set(ValueLayout.JAVA_SHORT_UNALIGNED, at, Float.floatToFloat16((float) varied));
  }

  private static TensorView view(DType dtype, int rows, int cols, MemorySegment data) {
    return new TensorView("w", dtype, new long[] {rows, cols}, data, "test data");
  }
}
