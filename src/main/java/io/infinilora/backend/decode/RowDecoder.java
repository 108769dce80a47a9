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

  private final WeightMatrix source;
  private final MemorySegment data;
  private final QuantBlocks blocks;

  /** A decoder of one matrix. */
  public RowDecoder(WeightMatrix source) {
    this.source = source;
    this.data = source.tensor().data();
    this.blocks = source.dtype().quantised() ? new QuantBlocks(source) : null;
  }

  /**
   * Writes row {@code row} to {@code cols} floats at address {@code into}. Nothing checks the
   * address.
   *
   * @throws InfiniLoraException BAD_MODEL_FILE if a quantised element is NaN
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
  }

  private void decodeBlocks(long first, int cols, long into) {
    DType dtype = source.dtype();
    long block = first / dtype.blockElements();
    for (int at = 0; at < cols; at += dtype.blockElements()) {
      blocks.read(block++);
      for (int i = 0; i < dtype.blockElements(); i++) {
        float value = blocks.value(i);
        if (Float.isNaN(value)) {
          TensorView tensor = source.tensor();
          throw new InfiniLoraException(
              ErrorCode.BAD_MODEL_FILE,
              "%s: tensor %s holds NaN".formatted(tensor.source(), tensor.name()));
        }
        set(into + 4L * (at + i), value);
      }
    }
  }

  private static void set(long address, float value) {
    ALL.set(ValueLayout.JAVA_FLOAT_UNALIGNED, address, value);
  }
}
