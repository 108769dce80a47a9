package io.infinilora.backend.reference;

import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Elements of weight matrices one by one, from the definitions of the plain types and MXFP4. */
public final class ReferenceWeights {
  private static final double[] E2M1 = {0, 0.5, 1, 1.5, 2, 3, 4, 6};

  private ReferenceWeights() {}

  /** All elements. */
  public static double[][] decode(WeightMatrix m) {
    double[][] values = new double[m.rows()][m.cols()];
    for (int i = 0; i < m.rows(); i++) {
      for (int j = 0; j < m.cols(); j++) {
        values[i][j] = element(m, m.element(i) + j * m.colStride());
      }
    }
    return values;
  }

  private static double element(WeightMatrix m, long at) {
    TensorView tensor = m.tensor();
    MemorySegment data = tensor.data();
    int within = (int) (at % 32);
    long block = at / 32;
    return switch (tensor.dtype()) {
      case F32 -> data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * at);
      case F16 -> Float.float16ToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * at));
      case BF16 -> Float.intBitsToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * at) << 16);
      case MXFP4 -> {
        int pair = data.get(ValueLayout.JAVA_BYTE, 17 * block + 1 + within % 16);
        yield e2m1(within < 16 ? pair : pair >> 4, data.get(ValueLayout.JAVA_BYTE, 17 * block));
      }
      case FP4 -> {
        int pair = data.get(ValueLayout.JAVA_BYTE, 16 * block + within / 2);
        byte scale = m.scales().data().get(ValueLayout.JAVA_BYTE, block);
        yield e2m1(within % 2 == 0 ? pair : pair >> 4, scale);
      }
      default -> throw new IllegalArgumentException(tensor.toString());
    };
  }

  private static double e2m1(int bits, byte exponent) {
    double magnitude = E2M1[bits & 7] * Math.pow(2, (exponent & 0xFF) - 127);
    return (bits & 8) == 0 ? magnitude : -magnitude;
  }
}
