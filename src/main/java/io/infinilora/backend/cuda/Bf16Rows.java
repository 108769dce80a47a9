package io.infinilora.backend.cuda;

import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Reads rows of a matrix of plain numbers as bf16, rounded to nearest, ties to even. */
final class Bf16Rows {
  private final WeightMatrix source;
  private final MemorySegment data;

  Bf16Rows(WeightMatrix source) {
    this.source = source;
    this.data = source.tensor().data();
  }

  /** Writes row {@code row} to the first {@code cols} elements of {@code into}. */
  void read(int row, short[] into) {
    long first = source.element(row);
    long step = source.colStride();
    int cols = source.cols();
    switch (source.dtype()) {
      case BF16 -> {
        for (int i = 0; i < cols; i++) {
          into[i] = data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * (first + i * step));
        }
      }
      case F16 -> {
        for (int i = 0; i < cols; i++) {
          short bits = data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * (first + i * step));
          into[i] = round(Float.float16ToFloat(bits));
        }
      }
      case F32 -> {
        for (int i = 0; i < cols; i++) {
          into[i] = round(data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * (first + i * step)));
        }
      }
      default -> throw new IllegalArgumentException(source + " holds no plain numbers");
    }
  }

  /** The nearest bf16; a NaN stays one. */
  static short round(float value) {
    int bits = Float.floatToRawIntBits(value);
    if (Float.isNaN(value)) {
      return (short) ((bits >>> 16) | 0x40);
    }
    return (short) ((bits + 0x7FFF + ((bits >>> 16) & 1)) >>> 16);
  }
}
