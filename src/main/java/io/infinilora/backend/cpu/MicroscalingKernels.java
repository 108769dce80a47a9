package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.I;
import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.LE;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.TileKernels.PANEL_BYTES;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;

import java.lang.foreign.Arena;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/**
 * Panels of 4-bit floats ({@link PackedFormat#E2M1}): the counterparts of {@link UnpackKernels} and
 * {@link RowKernels}. Times its scale, a power of two, each weight is exact.
 */
final class MicroscalingKernels {
  private static final int SIGN = 0x80000000;

  /**
   * Adjusts the exponent of 4-bit floats whose low three bits were put at the top of a mantissa.
   */
  private static final float BIAS = 0x1p126f;

  /**
   * Whether a vector of words can be looked up in one register. Where it cannot, the lower three
   * bits become the exponent and the top of the mantissa of a float that is 2^126 times too small.
   * Written out at each use, since no method may take or return a vector (see {@link RowKernels}).
   */
  private static final boolean TABLE_HOLDS_ALL = LANES >= 16;

  /** The 16 values, as often as a vector needs. */
  private static final long TABLE = table();

  private MicroscalingKernels() {}

  private static long table() {
    float[] magnitudes = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    int n = Math.max(16, LANES);
    long table = Arena.global().allocate(4L * n, Memory.ALIGNMENT).address();
    for (int i = 0; i < n; i++) {
      float magnitude = magnitudes[i & 7];
      Memory.set(table + 4L * i, (i & 8) == 0 ? magnitude : -magnitude);
    }
    return table;
  }

  /**
   * Writes whole blocks of columns of a panel.
   *
   * @param block first block
   * @param out {@link TileKernels#PANEL_BYTES} per column, {@code outStep} bytes apart
   */
  static void unpack(long block, long blockStep, int blocks, long out, long outStep) {
    IntVector table = IntVector.fromMemorySegment(I, ALL, TABLE, LE);
    long blockAt = block;
    long to = out;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = FloatVector.fromMemorySegment(F, ALL, blockAt, LE);
      FloatVector sb = FloatVector.fromMemorySegment(F, ALL, blockAt + VECTOR_BYTES, LE);
      for (int j = 1; j <= 4; j++) {
        IntVector wa = IntVector.fromMemorySegment(I, ALL, blockAt + j * PANEL_BYTES, LE);
        IntVector wb =
            IntVector.fromMemorySegment(I, ALL, blockAt + j * PANEL_BYTES + VECTOR_BYTES, LE);
        for (int n = 0; n < 8; n++) {
          (TABLE_HOLDS_ALL
                  ? wa.and(15).selectFrom(table).reinterpretAsFloats()
                  : wa.and(7)
                      .lanewise(LSHL, 22)
                      .reinterpretAsFloats()
                      .mul(BIAS)
                      .reinterpretAsInts()
                      .or(wa.lanewise(LSHL, 28).and(SIGN))
                      .reinterpretAsFloats())
              .mul(sa)
              .intoMemorySegment(ALL, to, LE);
          (TABLE_HOLDS_ALL
                  ? wb.and(15).selectFrom(table).reinterpretAsFloats()
                  : wb.and(7)
                      .lanewise(LSHL, 22)
                      .reinterpretAsFloats()
                      .mul(BIAS)
                      .reinterpretAsInts()
                      .or(wb.lanewise(LSHL, 28).and(SIGN))
                      .reinterpretAsFloats())
              .mul(sb)
              .intoMemorySegment(ALL, to + VECTOR_BYTES, LE);
          wa = wa.lanewise(LSHR, 4);
          wb = wb.lanewise(LSHR, 4);
          to += outStep;
        }
      }
      blockAt += blockStep;
    }
  }

  /** One row times whole blocks of two panels; parameters as {@link RowKernels#multiply}. */
  static void multiply(
      long first,
      long second,
      long blockStep,
      int blocks,
      long x,
      long xStep,
      long init,
      long secondInit,
      long out,
      long secondOut) {
    IntVector table = IntVector.fromMemorySegment(I, ALL, TABLE, LE);
    FloatVector a = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector c = FloatVector.fromMemorySegment(F, ALL, secondInit, LE);
    FloatVector d = FloatVector.fromMemorySegment(F, ALL, secondInit + VECTOR_BYTES, LE);
    long block = first;
    long toSecond = second - first;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = FloatVector.fromMemorySegment(F, ALL, block, LE);
      FloatVector sb = FloatVector.fromMemorySegment(F, ALL, block + VECTOR_BYTES, LE);
      FloatVector sc = FloatVector.fromMemorySegment(F, ALL, block + toSecond, LE);
      FloatVector sd = FloatVector.fromMemorySegment(F, ALL, block + toSecond + VECTOR_BYTES, LE);
      for (int j = 1; j <= 4; j++) {
        long in = block + j * PANEL_BYTES;
        IntVector wa = IntVector.fromMemorySegment(I, ALL, in, LE);
        IntVector wb = IntVector.fromMemorySegment(I, ALL, in + VECTOR_BYTES, LE);
        IntVector wc = IntVector.fromMemorySegment(I, ALL, in + toSecond, LE);
        IntVector wd = IntVector.fromMemorySegment(I, ALL, in + toSecond + VECTOR_BYTES, LE);
        for (int n = 0; n < 8; n++) {
          FloatVector v = FloatVector.broadcast(F, Memory.get(xk));
          a =
              v.fma(
                  (TABLE_HOLDS_ALL
                          ? wa.and(15).selectFrom(table).reinterpretAsFloats()
                          : wa.and(7)
                              .lanewise(LSHL, 22)
                              .reinterpretAsFloats()
                              .mul(BIAS)
                              .reinterpretAsInts()
                              .or(wa.lanewise(LSHL, 28).and(SIGN))
                              .reinterpretAsFloats())
                      .mul(sa),
                  a);
          b =
              v.fma(
                  (TABLE_HOLDS_ALL
                          ? wb.and(15).selectFrom(table).reinterpretAsFloats()
                          : wb.and(7)
                              .lanewise(LSHL, 22)
                              .reinterpretAsFloats()
                              .mul(BIAS)
                              .reinterpretAsInts()
                              .or(wb.lanewise(LSHL, 28).and(SIGN))
                              .reinterpretAsFloats())
                      .mul(sb),
                  b);
          c =
              v.fma(
                  (TABLE_HOLDS_ALL
                          ? wc.and(15).selectFrom(table).reinterpretAsFloats()
                          : wc.and(7)
                              .lanewise(LSHL, 22)
                              .reinterpretAsFloats()
                              .mul(BIAS)
                              .reinterpretAsInts()
                              .or(wc.lanewise(LSHL, 28).and(SIGN))
                              .reinterpretAsFloats())
                      .mul(sc),
                  c);
          d =
              v.fma(
                  (TABLE_HOLDS_ALL
                          ? wd.and(15).selectFrom(table).reinterpretAsFloats()
                          : wd.and(7)
                              .lanewise(LSHL, 22)
                              .reinterpretAsFloats()
                              .mul(BIAS)
                              .reinterpretAsInts()
                              .or(wd.lanewise(LSHL, 28).and(SIGN))
                              .reinterpretAsFloats())
                      .mul(sd),
                  d);
          wa = wa.lanewise(LSHR, 4);
          wb = wb.lanewise(LSHR, 4);
          wc = wc.lanewise(LSHR, 4);
          wd = wd.lanewise(LSHR, 4);
          xk += xStep;
        }
      }
      block += blockStep;
    }
    a.intoMemorySegment(ALL, out, LE);
    b.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
    c.intoMemorySegment(ALL, secondOut, LE);
    d.intoMemorySegment(ALL, secondOut + VECTOR_BYTES, LE);
  }
}
