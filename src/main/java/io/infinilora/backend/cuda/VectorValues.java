package io.infinilora.backend.cuda;

import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Values of a vector of any type. Those of plain types go through arrays: a model has so few
 * vectors that little of this is ever compiled, and until then elements of memory take three times
 * as long as those of arrays, and the first of a process tens of milliseconds.
 */
final class VectorValues {
  private VectorValues() {}

  /**
   * All values as float32.
   *
   * @throws io.infinilora.core.InfiniLoraException BAD_MODEL_FILE naming the tensor if one is not
   *     finite, or if the file cannot be read any more
   */
  static float[] of(TensorView view) {
    try {
      return values(view);
    } catch (InternalError e) {
      throw view.unreadable(e);
    }
  }

  private static float[] values(TensorView view) {
    return switch (view.dtype()) {
      case BF16 -> {
        short[] bits = view.data().toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
        float[] values = new float[bits.length];
        for (int i = 0; i < bits.length; i++) {
          values[i] = Float.intBitsToFloat(bits[i] << 16);
        }
        yield finite(values, view);
      }
      case F16 -> {
        short[] bits = view.data().toArray(ValueLayout.JAVA_SHORT_UNALIGNED);
        float[] values = new float[bits.length];
        for (int i = 0; i < bits.length; i++) {
          values[i] = Float.float16ToFloat(bits[i]);
        }
        yield finite(values, view);
      }
      case F32 -> finite(view.data().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED), view);
      default -> decoded(view);
    };
  }

  private static float[] finite(float[] values, TensorView view) {
    for (float value : values) {
      if (!Float.isFinite(value)) {
        throw new RowDecoder(WeightMatrix.of(view)).bad("holds " + Math.abs(value));
      }
    }
    return values;
  }

  private static float[] decoded(TensorView view) {
    RowDecoder decoder = new RowDecoder(WeightMatrix.of(view));
    try (Arena arena = Arena.ofConfined()) {
      long rowBytes = (long) Float.BYTES * view.cols();
      MemorySegment values = arena.allocate(rowBytes * view.rows(), Float.BYTES);
      for (int r = 0; r < view.rows(); r++) {
        decoder.decode(r, values.address() + r * rowBytes);
      }
      return values.toArray(ValueLayout.JAVA_FLOAT);
    }
  }
}
