package io.infinilora.weights;

import io.infinilora.core.TensorView;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;

/** Looks for NaN and infinities, by the exponent bits alone: all ones means either. */
final class FiniteCheck {

  private static final ValueLayout.OfInt INT =
      ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final ValueLayout.OfShort SHORT =
      ValueLayout.JAVA_SHORT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private FiniteCheck() {}

  /**
   * Checks a plain matrix.
   *
   * @throws io.infinilora.core.InfiniLoraException naming {@code file}, tensor and place
   */
  static void require(TensorView matrix, SafetensorsFile file) {
    long bad = firstNonFinite(matrix);
    if (bad >= 0) {
      throw file.tensorFault(
          matrix.name(),
          "holds a value that is not finite at [%d, %d]"
              .formatted(bad / matrix.cols(), bad % matrix.cols()));
    }
  }

  /** Index of the first element of a plain tensor that is not finite, or -1. */
  static long firstNonFinite(TensorView tensor) {
    MemorySegment data = tensor.data();
    return switch (tensor.dtype()) {
      case F32 -> scanInts(data, 0x7f800000);
      case BF16 -> scanShorts(data, 0x7f80);
      case F16 -> scanShorts(data, 0x7c00);
      default -> throw new IllegalArgumentException("not a plain tensor: " + tensor);
    };
  }

  private static long scanInts(MemorySegment data, int exponent) {
    long count = data.byteSize() / Integer.BYTES;
    for (long i = 0; i < count; i++) {
      if ((data.getAtIndex(INT, i) & exponent) == exponent) {
        return i;
      }
    }
    return -1;
  }

  private static long scanShorts(MemorySegment data, int exponent) {
    long count = data.byteSize() / Short.BYTES;
    for (long i = 0; i < count; i++) {
      if ((data.getAtIndex(SHORT, i) & exponent) == exponent) {
        return i;
      }
    }
    return -1;
  }
}
