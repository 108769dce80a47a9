package io.infinilora.backend.decode;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Decodes rows of a matrix of any type to float32. Not thread-safe. */
public final class RowDecoder {
  /** All memory, by absolute address. */
  private static final MemorySegment ALL = MemorySegment.NULL.reinterpret(Long.MAX_VALUE);

  /** Exponent bits of a float32: all are set in infinities and NaNs. */
  private static final int EXPONENT = 0x7F800000;

  private final WeightMatrix source;
  private final MemorySegment data;
  private final QuantBlocks blocks;

  /** Values of a block. */
  private final float[] values;

  /** A decoder of one matrix. */
  public RowDecoder(WeightMatrix source) {
    this.source = source;
    this.data = source.tensor().data();
    this.blocks = source.dtype().quantised() ? new QuantBlocks(source) : null;
    this.values = new float[source.dtype().blockElements()];
  }

  /**
   * Writes row {@code row} to {@code cols} floats at address {@code into}. Nothing checks the
   * address.
   *
   * @throws InfiniLoraException BAD_MODEL_FILE naming the tensor if an element is not finite
   */
  public void decode(int row, long into) {
    int cols = source.cols();
    long first = source.element(row);
    long step = source.colStride();
    switch (source.dtype()) {
      case F32 -> {
        if (source.contiguous()) {
          MemorySegment.copy(data, 4 * first, ALL, into, (long) cols * Float.BYTES);
        } else {
          for (int i = 0; i < cols; i++) {
            long at = 4 * (first + i * step);
            set(into + 4L * i, data.get(ValueLayout.JAVA_FLOAT_UNALIGNED, at));
          }
        }
      }
      case F16 -> {
        for (int i = 0; i < cols; i++) {
          short bits = data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * (first + i * step));
          set(into + 4L * i, Float.float16ToFloat(bits));
        }
      }
      case BF16 -> {
        for (int i = 0; i < cols; i++) {
          short bits = data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * (first + i * step));
          set(into + 4L * i, Float.intBitsToFloat(bits << 16));
        }
      }
      case U8 -> throw new IllegalArgumentException(source + " holds no weights");
      default -> decodeBlocks(first, cols, into);
    }
    refuseNonFinite(into, cols);
  }

  private void decodeBlocks(long first, int cols, long into) {
    DType dtype = source.dtype();
    long block = first / dtype.blockElements();
    for (int at = 0; at < cols; at += dtype.blockElements()) {
      blocks.read(block++);
      blocks.values(values);
      MemorySegment.copy(
          values, 0, ALL, ValueLayout.JAVA_FLOAT_UNALIGNED, into + 4L * at, values.length);
    }
  }

  /** Blocks with large scales can stand for what no float holds, too. */
  private void refuseNonFinite(long into, int cols) {
    int largest = 0;
    for (int i = 0; i < cols; i++) {
      largest =
          Math.max(largest, ALL.get(ValueLayout.JAVA_INT_UNALIGNED, into + 4L * i) & EXPONENT);
    }
    if (largest == EXPONENT) {
      for (int i = 0; i < cols; i++) {
        float value = ALL.get(ValueLayout.JAVA_FLOAT_UNALIGNED, into + 4L * i);
        if (!Float.isFinite(value)) {
          throw bad("holds " + Math.abs(value));
        }
      }
    }
  }

  /** The fault of the file that its tensor {@code what}. */
  public InfiniLoraException bad(String what) {
    TensorView tensor = source.tensor();
    return new InfiniLoraException(
        ErrorCode.BAD_MODEL_FILE,
        "%s: tensor %s %s".formatted(tensor.source(), tensor.name(), what));
  }

  private static void set(long address, float value) {
    ALL.set(ValueLayout.JAVA_FLOAT_UNALIGNED, address, value);
  }
}
