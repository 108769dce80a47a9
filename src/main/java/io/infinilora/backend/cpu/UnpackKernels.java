package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.Memory.load;
import static io.infinilora.backend.cpu.Memory.loadInts;
import static io.infinilora.backend.cpu.Memory.store;
import static io.infinilora.backend.cpu.TileKernels.PANEL_BYTES;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;

/**
 * Packed weights to float32, a panel at a time. Quants reach float without a conversion: put at the
 * top of the mantissa of 1.0 they are {@code 1 + q / 16} (or {@code 1 + u / 256}), and one
 * multiply-add with a prepared scale and offset gives the weight. For the types without a minimum,
 * and for all products that are exact in float32, the result is exact.
 */
final class UnpackKernels {
  /** Bits of 1.0f. */
  static final int ONE = 0x3F800000;

  /** The four top bits of a mantissa. */
  static final int NIBBLE = 0x00780000;

  /** The eight top bits of a mantissa. */
  static final int BYTE = 0x007F8000;

  /** Magnitude and sign of a float16, moved to where float32 has them. */
  private static final int HALF_MAGNITUDE = 0x0FFFE000;

  private static final int SIGN = 0x80000000;

  /** Corrects the exponent's bias after the move; exact also for subnormal halves. */
  private static final float HALF_SCALE = 0x1p112f;

  private UnpackKernels() {}

  /**
   * Writes {@code depth} columns of a panel, {@link TileKernels#PANEL_BYTES} each.
   *
   * @param block first block
   */
  static void unpack(PackedFormat format, long block, int depth, long out) {
    int blocks = Math.ceilDiv(depth, format.columns());
    switch (format) {
      case F32 -> throw new IllegalArgumentException("F32 panels are used as they are");
      case BF16 -> bf16(block, depth, out);
      case F16 -> f16(block, depth, out);
      case Q4_HALF -> q4Half(block, blocks, out);
      case Q4_FLOAT -> q4Float(block, blocks, out);
      case Q8_32 -> q8(block, blocks, 8, out);
      case Q8_16 -> q8(block, blocks, 4, out);
      case Q8_MIN -> q8Min(block, blocks, out);
    }
  }

  /** The float16 in the low halves of the words, times {@code factor}. */
  static FloatVector lowHalf(IntVector words, float factor) {
    return words
        .lanewise(VectorOperators.LSHL, 16)
        .and(SIGN)
        .or(words.lanewise(VectorOperators.LSHL, 13).and(HALF_MAGNITUDE))
        .reinterpretAsFloats()
        .mul(HALF_SCALE * factor);
  }

  /** The float16 in the high halves of the words. */
  static FloatVector highHalf(IntVector words) {
    return words
        .and(SIGN)
        .or(words.lanewise(VectorOperators.LSHR, 3).and(HALF_MAGNITUDE))
        .reinterpretAsFloats()
        .mul(HALF_SCALE);
  }

  /** The bfloat16 in the low halves of the words. */
  static FloatVector lowBrain(IntVector words) {
    return words.lanewise(VectorOperators.LSHL, 16).reinterpretAsFloats();
  }

  /** The bfloat16 in the high halves of the words. */
  static FloatVector highBrain(IntVector words) {
    return words.and(0xFFFF0000).reinterpretAsFloats();
  }

  /** {@code 1 + field} for the field that was shifted to the top of the mantissa. */
  static FloatVector onePlus(IntVector shifted, int mask) {
    return shifted.and(mask).or(ONE).reinterpretAsFloats();
  }

  private static void bf16(long block, int depth, long out) {
    for (int v = 0; v < 2; v++) {
      long in = block + v * VECTOR_BYTES;
      long to = out + v * VECTOR_BYTES;
      for (int k = 0; k < depth; k += 2) {
        IntVector words = loadInts(in + (k >> 1) * PANEL_BYTES);
        store(lowBrain(words), to + k * PANEL_BYTES);
        if (k + 1 < depth) {
          store(highBrain(words), to + (k + 1) * PANEL_BYTES);
        }
      }
    }
  }

  private static void f16(long block, int depth, long out) {
    for (int v = 0; v < 2; v++) {
      long in = block + v * VECTOR_BYTES;
      long to = out + v * VECTOR_BYTES;
      for (int k = 0; k < depth; k += 2) {
        IntVector words = loadInts(in + (k >> 1) * PANEL_BYTES);
        store(lowHalf(words, 1), to + k * PANEL_BYTES);
        if (k + 1 < depth) {
          store(highHalf(words), to + (k + 1) * PANEL_BYTES);
        }
      }
    }
  }

  private static void q4Half(long block, int blocks, long out) {
    long in = block;
    long to = out;
    for (int b = 0; b < blocks; b++) {
      for (int v = 0; v < 2; v++) {
        IntVector scales = loadInts(in + v * VECTOR_BYTES);
        FloatVector scale = lowHalf(scales, 16);
        FloatVector offset = highHalf(scales).sub(scale);
        nibbles(in + PANEL_BYTES + v * VECTOR_BYTES, scale, offset, to + v * VECTOR_BYTES);
      }
      in += 5 * PANEL_BYTES;
      to += 32 * PANEL_BYTES;
    }
  }

  private static void q4Float(long block, int blocks, long out) {
    long in = block;
    long to = out;
    for (int b = 0; b < blocks; b++) {
      for (int v = 0; v < 2; v++) {
        FloatVector scale = load(in + v * VECTOR_BYTES);
        FloatVector offset = load(in + PANEL_BYTES + v * VECTOR_BYTES);
        nibbles(in + 2 * PANEL_BYTES + v * VECTOR_BYTES, scale, offset, to + v * VECTOR_BYTES);
      }
      in += 6 * PANEL_BYTES;
      to += 32 * PANEL_BYTES;
    }
  }

  private static void nibbles(long words, FloatVector scale, FloatVector offset, long out) {
    for (int j = 0; j < 4; j++) {
      IntVector w = loadInts(words + j * PANEL_BYTES);
      long to = out + 8 * j * PANEL_BYTES;
      store(weight(w.lanewise(VectorOperators.LSHL, 19), NIBBLE, scale, offset), to);
      store(weight(w.lanewise(VectorOperators.LSHL, 15), NIBBLE, scale, offset), to + PANEL_BYTES);
      store(
          weight(w.lanewise(VectorOperators.LSHL, 11), NIBBLE, scale, offset),
          to + 2 * PANEL_BYTES);
      store(
          weight(w.lanewise(VectorOperators.LSHL, 7), NIBBLE, scale, offset), to + 3 * PANEL_BYTES);
      store(
          weight(w.lanewise(VectorOperators.LSHL, 3), NIBBLE, scale, offset), to + 4 * PANEL_BYTES);
      store(
          weight(w.lanewise(VectorOperators.LSHR, 1), NIBBLE, scale, offset), to + 5 * PANEL_BYTES);
      store(
          weight(w.lanewise(VectorOperators.LSHR, 5), NIBBLE, scale, offset), to + 6 * PANEL_BYTES);
      store(
          weight(w.lanewise(VectorOperators.LSHR, 9), NIBBLE, scale, offset), to + 7 * PANEL_BYTES);
    }
  }

  private static void q8(long block, int blocks, int words, long out) {
    long in = block;
    long to = out;
    for (int b = 0; b < blocks; b++) {
      for (int v = 0; v < 2; v++) {
        FloatVector scale = load(in + v * VECTOR_BYTES);
        FloatVector offset = scale.mul(-1.5f);
        bytes(in + PANEL_BYTES + v * VECTOR_BYTES, words, scale, offset, to + v * VECTOR_BYTES);
      }
      in += (1 + words) * PANEL_BYTES;
      to += 4 * words * PANEL_BYTES;
    }
  }

  private static void q8Min(long block, int blocks, long out) {
    long in = block;
    long to = out;
    for (int b = 0; b < blocks; b++) {
      for (int v = 0; v < 2; v++) {
        FloatVector scale = load(in + v * VECTOR_BYTES);
        FloatVector offset = load(in + PANEL_BYTES + v * VECTOR_BYTES);
        bytes(in + 2 * PANEL_BYTES + v * VECTOR_BYTES, 8, scale, offset, to + v * VECTOR_BYTES);
      }
      in += 10 * PANEL_BYTES;
      to += 32 * PANEL_BYTES;
    }
  }

  private static void bytes(
      long words, int count, FloatVector scale, FloatVector offset, long out) {
    for (int j = 0; j < count; j++) {
      IntVector w = loadInts(words + j * PANEL_BYTES);
      long to = out + 4 * j * PANEL_BYTES;
      store(weight(w.lanewise(VectorOperators.LSHL, 15), BYTE, scale, offset), to);
      store(weight(w.lanewise(VectorOperators.LSHL, 7), BYTE, scale, offset), to + PANEL_BYTES);
      store(weight(w.lanewise(VectorOperators.LSHR, 1), BYTE, scale, offset), to + 2 * PANEL_BYTES);
      store(weight(w.lanewise(VectorOperators.LSHR, 9), BYTE, scale, offset), to + 3 * PANEL_BYTES);
    }
  }

  /** The weight whose quant was shifted to the top of the mantissa. */
  static FloatVector weight(IntVector shifted, int mask, FloatVector scale, FloatVector offset) {
    return onePlus(shifted, mask).fma(scale, offset);
  }
}
