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
 * One row times one panel of quants without unpacking to memory first. The sequence of roundings of
 * each element is that of {@link UnpackKernels} followed by {@link TileKernels}.
 */
final class RowKernels {
  private RowKernels() {}

  /**
   * Whole blocks of two panels, which may be the same one.
   *
   * @param first first block of one panel
   * @param second first block of the other
   * @param scales as {@link UnpackKernels#scales} made them
   */
  static void multiply(
      PackedFormat format,
      long first,
      long second,
      int blocks,
      long scales,
      long secondScales,
      long x,
      long init,
      long secondInit,
      long out,
      long secondOut) {
    long words = format.scaleWords() * PANEL_BYTES;
    if (format == PackedFormat.E2M1) {
      MicroscalingKernels.multiply(
          first,
          second,
          format.blockBytes(),
          blocks,
          x,
          TileKernels.step(),
          init,
          secondInit,
          out,
          secondOut);
    } else if (format.quantBits() == 4) {
      nibbles(
          first + words,
          second + words,
          format.blockBytes(),
          blocks,
          scales,
          secondScales,
          x,
          TileKernels.step(),
          init,
          secondInit,
          out,
          secondOut);
    } else {
      bytes(
          first + words,
          second + words,
          format.blockBytes(),
          blocks,
          format.words(),
          scales,
          secondScales,
          x,
          TileKernels.step(),
          init,
          secondInit,
          out,
          secondOut);
    }
  }

  private static void nibbles(
      long first,
      long second,
      long blockStep,
      int blocks,
      long scales,
      long secondScales,
      long x,
      long xStep,
      long init,
      long secondInit,
      long out,
      long secondOut) {
    IntVector mask = IntVector.broadcast(I, UnpackKernels.NIBBLE);
    IntVector one = IntVector.broadcast(I, UnpackKernels.ONE);
    FloatVector a = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector c = FloatVector.fromMemorySegment(F, ALL, secondInit, LE);
    FloatVector d = FloatVector.fromMemorySegment(F, ALL, secondInit + VECTOR_BYTES, LE);
    long block = first;
    long toSecond = second - first;
    long scalesAt = scales;
    long toSecondScales = secondScales - scales;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = FloatVector.fromMemorySegment(F, ALL, scalesAt, LE);
      FloatVector sb = FloatVector.fromMemorySegment(F, ALL, scalesAt + VECTOR_BYTES, LE);
      FloatVector oa = FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES, LE);
      FloatVector ob =
          FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES + VECTOR_BYTES, LE);
      long otherScales = scalesAt + toSecondScales;
      FloatVector sc = FloatVector.fromMemorySegment(F, ALL, otherScales, LE);
      FloatVector sd = FloatVector.fromMemorySegment(F, ALL, otherScales + VECTOR_BYTES, LE);
      FloatVector oc = FloatVector.fromMemorySegment(F, ALL, otherScales + PANEL_BYTES, LE);
      FloatVector od =
          FloatVector.fromMemorySegment(F, ALL, otherScales + PANEL_BYTES + VECTOR_BYTES, LE);
      for (int j = 0; j < 4; j++) {
        long in = block + j * PANEL_BYTES;
        IntVector wa = IntVector.fromMemorySegment(I, ALL, in, LE);
        IntVector wb = IntVector.fromMemorySegment(I, ALL, in + VECTOR_BYTES, LE);
        IntVector wc = IntVector.fromMemorySegment(I, ALL, in + toSecond, LE);
        IntVector wd = IntVector.fromMemorySegment(I, ALL, in + toSecond + VECTOR_BYTES, LE);
        for (int n = 0; n < 8; n++) {
          FloatVector v = FloatVector.broadcast(F, ALL.get(FLOAT, xk));
          a = v.fma(wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa), a);
          b = v.fma(wb.and(mask).or(one).reinterpretAsFloats().fma(sb, ob), b);
          c = v.fma(wc.and(mask).or(one).reinterpretAsFloats().fma(sc, oc), c);
          d = v.fma(wd.and(mask).or(one).reinterpretAsFloats().fma(sd, od), d);
          wa = wa.lanewise(ROR, 4);
          wb = wb.lanewise(ROR, 4);
          wc = wc.lanewise(ROR, 4);
          wd = wd.lanewise(ROR, 4);
          xk += xStep;
        }
      }
      block += blockStep;
      scalesAt += 2 * PANEL_BYTES;
    }
    a.intoMemorySegment(ALL, out, LE);
    b.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
    c.intoMemorySegment(ALL, secondOut, LE);
    d.intoMemorySegment(ALL, secondOut + VECTOR_BYTES, LE);
  }

  private static void bytes(
      long first,
      long second,
      long blockStep,
      int blocks,
      int words,
      long scales,
      long secondScales,
      long x,
      long xStep,
      long init,
      long secondInit,
      long out,
      long secondOut) {
    IntVector mask = IntVector.broadcast(I, UnpackKernels.BYTE);
    IntVector one = IntVector.broadcast(I, UnpackKernels.ONE);
    FloatVector a = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector c = FloatVector.fromMemorySegment(F, ALL, secondInit, LE);
    FloatVector d = FloatVector.fromMemorySegment(F, ALL, secondInit + VECTOR_BYTES, LE);
    long block = first;
    long toSecond = second - first;
    long scalesAt = scales;
    long toSecondScales = secondScales - scales;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = FloatVector.fromMemorySegment(F, ALL, scalesAt, LE);
      FloatVector sb = FloatVector.fromMemorySegment(F, ALL, scalesAt + VECTOR_BYTES, LE);
      FloatVector oa = FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES, LE);
      FloatVector ob =
          FloatVector.fromMemorySegment(F, ALL, scalesAt + PANEL_BYTES + VECTOR_BYTES, LE);
      long otherScales = scalesAt + toSecondScales;
      FloatVector sc = FloatVector.fromMemorySegment(F, ALL, otherScales, LE);
      FloatVector sd = FloatVector.fromMemorySegment(F, ALL, otherScales + VECTOR_BYTES, LE);
      FloatVector oc = FloatVector.fromMemorySegment(F, ALL, otherScales + PANEL_BYTES, LE);
      FloatVector od =
          FloatVector.fromMemorySegment(F, ALL, otherScales + PANEL_BYTES + VECTOR_BYTES, LE);
      for (int j = 0; j < words; j++) {
        long in = block + j * PANEL_BYTES;
        IntVector wa = IntVector.fromMemorySegment(I, ALL, in, LE);
        IntVector wb = IntVector.fromMemorySegment(I, ALL, in + VECTOR_BYTES, LE);
        IntVector wc = IntVector.fromMemorySegment(I, ALL, in + toSecond, LE);
        IntVector wd = IntVector.fromMemorySegment(I, ALL, in + toSecond + VECTOR_BYTES, LE);
        for (int n = 0; n < 4; n++) {
          FloatVector v = FloatVector.broadcast(F, ALL.get(FLOAT, xk));
          a = v.fma(wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa), a);
          b = v.fma(wb.and(mask).or(one).reinterpretAsFloats().fma(sb, ob), b);
          c = v.fma(wc.and(mask).or(one).reinterpretAsFloats().fma(sc, oc), c);
          d = v.fma(wd.and(mask).or(one).reinterpretAsFloats().fma(sd, od), d);
          wa = wa.lanewise(ROR, 8);
          wb = wb.lanewise(ROR, 8);
          wc = wc.lanewise(ROR, 8);
          wd = wd.lanewise(ROR, 8);
          xk += xStep;
        }
      }
      block += blockStep;
      scalesAt += 2 * PANEL_BYTES;
    }
    a.intoMemorySegment(ALL, out, LE);
    b.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
    c.intoMemorySegment(ALL, secondOut, LE);
    d.intoMemorySegment(ALL, secondOut + VECTOR_BYTES, LE);
  }
}
