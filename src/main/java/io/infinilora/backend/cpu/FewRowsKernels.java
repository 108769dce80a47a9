package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.FLOAT;
import static io.infinilora.backend.cpu.Memory.I;
import static io.infinilora.backend.cpu.Memory.LE;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.TileKernels.PANEL_BYTES;
import static jdk.incubator.vector.VectorOperators.ROR;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/**
 * Up to four rows times one panel of quants without unpacking to memory first. The sequence of
 * roundings of each element is that of {@link UnpackKernels} followed by {@link TileKernels}.
 */
final class FewRowsKernels {
  /** Most rows of one call. */
  static final int ROWS = 4;

  private FewRowsKernels() {}

  /**
   * Whole blocks of a panel. Fewer rows than {@link #ROWS} cost as much: the last is computed
   * again.
   *
   * @param rows 1 to {@link #ROWS}
   * @param block first block
   * @param scales as {@link UnpackKernels#scales} made them
   * @param init start values, initStride bytes apart (0 for the same in each row, as a bias)
   * @param out results, outStride bytes apart; may be {@code init}
   */
  static void multiply(
      PackedFormat format,
      int rows,
      long block,
      int blocks,
      long scales,
      long x,
      long xStride,
      long init,
      long initStride,
      long out,
      long outStride) {
    long quants = block + format.scaleWords() * PANEL_BYTES;
    int second = Math.min(1, rows - 1);
    int third = Math.min(2, rows - 1);
    int fourth = rows - 1;
    if (format.quantBits() == 4) {
      nibbles(
          quants,
          format.blockBytes(),
          blocks,
          scales,
          x,
          TileKernels.step(),
          second * xStride,
          third * xStride,
          fourth * xStride,
          init,
          init + second * initStride,
          init + third * initStride,
          init + fourth * initStride,
          out,
          out + second * outStride,
          out + third * outStride,
          out + fourth * outStride);
    } else {
      bytes(
          quants,
          format.blockBytes(),
          blocks,
          format.words(),
          scales,
          x,
          TileKernels.step(),
          second * xStride,
          third * xStride,
          fourth * xStride,
          init,
          init + second * initStride,
          init + third * initStride,
          init + fourth * initStride,
          out,
          out + second * outStride,
          out + third * outStride,
          out + fourth * outStride);
    }
  }

  private static void nibbles(
      long block,
      long blockStep,
      int blocks,
      long scales,
      long x,
      long xStep,
      long x1,
      long x2,
      long x3,
      long init,
      long init1,
      long init2,
      long init3,
      long out,
      long out1,
      long out2,
      long out3) {
    IntVector mask = IntVector.broadcast(I, UnpackKernels.NIBBLE);
    IntVector one = IntVector.broadcast(I, UnpackKernels.ONE);
    FloatVector a0 = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b0 = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector a1 = FloatVector.fromMemorySegment(F, ALL, init1, LE);
    FloatVector b1 = FloatVector.fromMemorySegment(F, ALL, init1 + VECTOR_BYTES, LE);
    FloatVector a2 = FloatVector.fromMemorySegment(F, ALL, init2, LE);
    FloatVector b2 = FloatVector.fromMemorySegment(F, ALL, init2 + VECTOR_BYTES, LE);
    FloatVector a3 = FloatVector.fromMemorySegment(F, ALL, init3, LE);
    FloatVector b3 = FloatVector.fromMemorySegment(F, ALL, init3 + VECTOR_BYTES, LE);
    long blockAt = block;
    long scalesAt = scales;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = FloatVector.fromMemorySegment(F, ALL, scalesAt, LE);
      FloatVector sb = FloatVector.fromMemorySegment(F, ALL, scalesAt + VECTOR_BYTES, LE);
      FloatVector oa = FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES, LE);
      FloatVector ob =
          FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES + VECTOR_BYTES, LE);
      for (int j = 0; j < 4; j++) {
        long in = blockAt + j * PANEL_BYTES;
        IntVector wa = IntVector.fromMemorySegment(I, ALL, in, LE);
        IntVector wb = IntVector.fromMemorySegment(I, ALL, in + VECTOR_BYTES, LE);
        for (int n = 0; n < 8; n++) {
          FloatVector fa = wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa);
          FloatVector fb = wb.and(mask).or(one).reinterpretAsFloats().fma(sb, ob);
          FloatVector v = FloatVector.broadcast(F, ALL.get(FLOAT, xk));
          a0 = v.fma(fa, a0);
          b0 = v.fma(fb, b0);
          v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + x1));
          a1 = v.fma(fa, a1);
          b1 = v.fma(fb, b1);
          v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + x2));
          a2 = v.fma(fa, a2);
          b2 = v.fma(fb, b2);
          v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + x3));
          a3 = v.fma(fa, a3);
          b3 = v.fma(fb, b3);
          wa = wa.lanewise(ROR, 4);
          wb = wb.lanewise(ROR, 4);
          xk += xStep;
        }
      }
      blockAt += blockStep;
      scalesAt += 2 * PANEL_BYTES;
    }
    a0.intoMemorySegment(ALL, out, LE);
    b0.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
    a1.intoMemorySegment(ALL, out1, LE);
    b1.intoMemorySegment(ALL, out1 + VECTOR_BYTES, LE);
    a2.intoMemorySegment(ALL, out2, LE);
    b2.intoMemorySegment(ALL, out2 + VECTOR_BYTES, LE);
    a3.intoMemorySegment(ALL, out3, LE);
    b3.intoMemorySegment(ALL, out3 + VECTOR_BYTES, LE);
  }

  private static void bytes(
      long block,
      long blockStep,
      int blocks,
      int words,
      long scales,
      long x,
      long xStep,
      long x1,
      long x2,
      long x3,
      long init,
      long init1,
      long init2,
      long init3,
      long out,
      long out1,
      long out2,
      long out3) {
    IntVector mask = IntVector.broadcast(I, UnpackKernels.BYTE);
    IntVector one = IntVector.broadcast(I, UnpackKernels.ONE);
    FloatVector a0 = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b0 = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector a1 = FloatVector.fromMemorySegment(F, ALL, init1, LE);
    FloatVector b1 = FloatVector.fromMemorySegment(F, ALL, init1 + VECTOR_BYTES, LE);
    FloatVector a2 = FloatVector.fromMemorySegment(F, ALL, init2, LE);
    FloatVector b2 = FloatVector.fromMemorySegment(F, ALL, init2 + VECTOR_BYTES, LE);
    FloatVector a3 = FloatVector.fromMemorySegment(F, ALL, init3, LE);
    FloatVector b3 = FloatVector.fromMemorySegment(F, ALL, init3 + VECTOR_BYTES, LE);
    long blockAt = block;
    long scalesAt = scales;
    long xk = x;
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
          FloatVector fa = wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa);
          FloatVector fb = wb.and(mask).or(one).reinterpretAsFloats().fma(sb, ob);
          FloatVector v = FloatVector.broadcast(F, ALL.get(FLOAT, xk));
          a0 = v.fma(fa, a0);
          b0 = v.fma(fb, b0);
          v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + x1));
          a1 = v.fma(fa, a1);
          b1 = v.fma(fb, b1);
          v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + x2));
          a2 = v.fma(fa, a2);
          b2 = v.fma(fb, b2);
          v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + x3));
          a3 = v.fma(fa, a3);
          b3 = v.fma(fb, b3);
          wa = wa.lanewise(ROR, 8);
          wb = wb.lanewise(ROR, 8);
          xk += xStep;
        }
      }
      blockAt += blockStep;
      scalesAt += 2 * PANEL_BYTES;
    }
    a0.intoMemorySegment(ALL, out, LE);
    b0.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
    a1.intoMemorySegment(ALL, out1, LE);
    b1.intoMemorySegment(ALL, out1 + VECTOR_BYTES, LE);
    a2.intoMemorySegment(ALL, out2, LE);
    b2.intoMemorySegment(ALL, out2 + VECTOR_BYTES, LE);
    a3.intoMemorySegment(ALL, out3, LE);
    b3.intoMemorySegment(ALL, out3 + VECTOR_BYTES, LE);
  }
}
