package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.I;
import static io.infinilora.backend.cpu.Memory.LE;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.TileKernels.PANEL_BYTES;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;
import static jdk.incubator.vector.VectorOperators.ROR;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

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

  /** The high half of a word. */
  static final int HIGH_HALF = 0xFFFF0000;

  /** Corrects the exponent's bias after the move; exact also for subnormal halves. */
  private static final float HALF_SCALE = 0x1p112f;

  /** Not final, so that C2 does not see a linear sequence of addresses; see {@link TileKernels}. */
  private static long outStep = PANEL_BYTES;

  private UnpackKernels() {}

  /**
   * Writes {@code depth} columns of a panel, {@link TileKernels#PANEL_BYTES} each.
   *
   * @param block first block
   * @param scales as {@link #scales} made them; not read for formats without scales
   */
  static void unpack(PackedFormat format, long block, int depth, long scales, long out) {
    int blocks = Math.ceilDiv(depth, format.columns());
    long words = block + format.scaleWords() * PANEL_BYTES;
    switch (format) {
      case F32 -> throw new IllegalArgumentException("F32 panels are used as they are");
      case BF16 -> bf16(block, depth, out);
      case F16 -> f16(block, depth, out);
      case Q4_HALF, Q4_FLOAT ->
          nibbles(words, format.blockBytes(), blocks, format.words(), scales, out, outStep);
      case Q8_32, Q8_16, Q8_MIN ->
          bytes(words, format.blockBytes(), blocks, format.words(), scales, out, outStep);
      case E2M1 -> MicroscalingKernels.unpack(block, format.blockBytes(), blocks, out, outStep);
    }
  }

  private static void bf16(long block, int depth, long out) {
    for (int v = 0; v < 2; v++) {
      long in = block + v * VECTOR_BYTES;
      long to = out + v * VECTOR_BYTES;
      for (int k = 0; k < depth; k += 2) {
        IntVector words = IntVector.fromMemorySegment(I, ALL, in + (k >> 1) * PANEL_BYTES, LE);
        words.lanewise(LSHL, 16).intoMemorySegment(ALL, to + k * PANEL_BYTES, LE);
        if (k + 1 < depth) {
          words.and(HIGH_HALF).intoMemorySegment(ALL, to + (k + 1) * PANEL_BYTES, LE);
        }
      }
    }
  }

  private static void f16(long block, int depth, long out) {
    for (int v = 0; v < 2; v++) {
      long in = block + v * VECTOR_BYTES;
      long to = out + v * VECTOR_BYTES;
      for (int k = 0; k < depth; k += 2) {
        IntVector words = IntVector.fromMemorySegment(I, ALL, in + (k >> 1) * PANEL_BYTES, LE);
        words
            .lanewise(LSHL, 16)
            .and(SIGN)
            .or(words.lanewise(LSHL, 13).and(HALF_MAGNITUDE))
            .reinterpretAsFloats()
            .mul(HALF_SCALE)
            .intoMemorySegment(ALL, to + k * PANEL_BYTES, LE);
        if (k + 1 < depth) {
          words
              .and(SIGN)
              .or(words.lanewise(LSHR, 3).and(HALF_MAGNITUDE))
              .reinterpretAsFloats()
              .mul(HALF_SCALE)
              .intoMemorySegment(ALL, to + (k + 1) * PANEL_BYTES, LE);
        }
      }
    }
  }

  /**
   * Float32 scales of whole blocks: per block S of the panel's two vectors, then their offsets M;
   * the weight is {@code S (1 + q / 2^bits) + M}.
   */
  static void scales(PackedFormat format, long block, int blocks, long out) {
    switch (format) {
      case Q4_HALF -> halfScales(block, format.blockBytes(), blocks, out);
      case Q8_32, Q8_16 -> centredScales(block, format.blockBytes(), blocks, out);
      case Q4_FLOAT, Q8_MIN -> {
        for (int i = 0; i < blocks; i++) {
          Memory.copy(block + i * format.blockBytes(), out + i * 2 * PANEL_BYTES, 2 * PANEL_BYTES);
        }
      }
      case E2M1 -> {} // Its kernels read them where they are.
      case F32, BF16, F16 -> throw new IllegalArgumentException(format + " has no scales");
    }
  }

  private static void halfScales(long block, long blockStep, int blocks, long out) {
    long in = block;
    long to = out;
    for (int i = 0; i < 2 * blocks; i++) {
      IntVector words = IntVector.fromMemorySegment(I, ALL, in, LE);
      FloatVector scale =
          words
              .lanewise(LSHL, 16)
              .and(SIGN)
              .or(words.lanewise(LSHL, 13).and(HALF_MAGNITUDE))
              .reinterpretAsFloats()
              .mul(16 * HALF_SCALE);
      scale.intoMemorySegment(ALL, to, LE);
      words
          .and(SIGN)
          .or(words.lanewise(LSHR, 3).and(HALF_MAGNITUDE))
          .reinterpretAsFloats()
          .mul(HALF_SCALE)
          .sub(scale)
          .intoMemorySegment(ALL, to + PANEL_BYTES, LE);
      boolean second = (i & 1) != 0;
      in += second ? blockStep - VECTOR_BYTES : VECTOR_BYTES;
      to += second ? 2 * PANEL_BYTES - VECTOR_BYTES : VECTOR_BYTES;
    }
  }

  private static void centredScales(long block, long blockStep, int blocks, long out) {
    for (int i = 0; i < blocks; i++) {
      long in = block + i * blockStep;
      long to = out + i * 2 * PANEL_BYTES;
      FloatVector a = FloatVector.fromMemorySegment(F, ALL, in, LE);
      FloatVector b = FloatVector.fromMemorySegment(F, ALL, in + VECTOR_BYTES, LE);
      a.intoMemorySegment(ALL, to, LE);
      b.intoMemorySegment(ALL, to + VECTOR_BYTES, LE);
      a.mul(-1.5f).intoMemorySegment(ALL, to + PANEL_BYTES, LE);
      b.mul(-1.5f).intoMemorySegment(ALL, to + PANEL_BYTES + VECTOR_BYTES, LE);
    }
  }

  private static void nibbles(
      long block, long blockStep, int blocks, int words, long scales, long out, long outStep) {
    IntVector mask = IntVector.broadcast(I, NIBBLE);
    IntVector one = IntVector.broadcast(I, ONE);
    long blockAt = block;
    long scalesAt = scales;
    long to = out;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = FloatVector.fromMemorySegment(F, ALL, scalesAt, LE);
      FloatVector sb = FloatVector.fromMemorySegment(F, ALL, scalesAt + VECTOR_BYTES, LE);
      FloatVector oa = FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES, LE);
      FloatVector ob =
          FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES + VECTOR_BYTES, LE);
      for (int j = 0; j < words; j++) {
        long in = blockAt + j * PANEL_BYTES;
        IntVector wa = IntVector.fromMemorySegment(I, ALL, in, LE);
        IntVector wb = IntVector.fromMemorySegment(I, ALL, in + VECTOR_BYTES, LE);
        for (int n = 0; n < 8; n++) {
          wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa).intoMemorySegment(ALL, to, LE);
          wb.and(mask)
              .or(one)
              .reinterpretAsFloats()
              .fma(sb, ob)
              .intoMemorySegment(ALL, to + VECTOR_BYTES, LE);
          wa = wa.lanewise(ROR, 4);
          wb = wb.lanewise(ROR, 4);
          to += outStep;
        }
      }
      blockAt += blockStep;
      scalesAt += 2 * PANEL_BYTES;
    }
  }

  private static void bytes(
      long block, long blockStep, int blocks, int words, long scales, long out, long outStep) {
    IntVector mask = IntVector.broadcast(I, BYTE);
    IntVector one = IntVector.broadcast(I, ONE);
    long blockAt = block;
    long scalesAt = scales;
    long to = out;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = FloatVector.fromMemorySegment(F, ALL, scalesAt, LE);
      FloatVector sb = FloatVector.fromMemorySegment(F, ALL, scalesAt + VECTOR_BYTES, LE);
      FloatVector oa = FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES, LE);
      FloatVector ob =
          FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES + VECTOR_BYTES, LE);
      for (int j = 0; j < words; j++) {
        long in = blockAt + j * PANEL_BYTES;
        IntVector wa = IntVector.fromMemorySegment(I, ALL, in, LE);
        IntVector wb = IntVector.fromMemorySegment(I, ALL, in + VECTOR_BYTES, LE);
        for (int n = 0; n < 4; n++) {
          wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa).intoMemorySegment(ALL, to, LE);
          wb.and(mask)
              .or(one)
              .reinterpretAsFloats()
              .fma(sb, ob)
              .intoMemorySegment(ALL, to + VECTOR_BYTES, LE);
          wa = wa.lanewise(ROR, 8);
          wb = wb.lanewise(ROR, 8);
          to += outStep;
        }
      }
      blockAt += blockStep;
      scalesAt += 2 * PANEL_BYTES;
    }
  }
}
