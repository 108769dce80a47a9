package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.I;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.Memory.broadcast;
import static io.infinilora.backend.cpu.Memory.load;
import static io.infinilora.backend.cpu.Memory.loadInts;
import static io.infinilora.backend.cpu.Memory.store;
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
   * Whole blocks of a panel.
   *
   * @param block first block
   * @param scales as {@link UnpackKernels#scales} made them
   */
  static void multiply(
      PackedFormat format, long block, int blocks, long scales, long x, long init, long out) {
    long words = block + format.scaleWords() * PANEL_BYTES;
    if (format.quantBits() == 4) {
      nibbles(words, format.blockBytes(), blocks, scales, x, TileKernels.step(), init, out);
    } else {
      bytes(
          words,
          format.blockBytes(),
          blocks,
          format.words(),
          scales,
          x,
          TileKernels.step(),
          init,
          out);
    }
  }

  private static void nibbles(
      long block,
      long blockStep,
      int blocks,
      long scales,
      long x,
      long xStep,
      long init,
      long out) {
    IntVector mask = IntVector.broadcast(I, UnpackKernels.NIBBLE);
    IntVector one = IntVector.broadcast(I, UnpackKernels.ONE);
    FloatVector a = load(init);
    FloatVector b = load(init + VECTOR_BYTES);
    long blockAt = block;
    long scalesAt = scales;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = load(scalesAt);
      FloatVector sb = load(scalesAt + VECTOR_BYTES);
      FloatVector oa = load(scalesAt + PANEL_BYTES);
      FloatVector ob = load(scalesAt + PANEL_BYTES + VECTOR_BYTES);
      for (int j = 0; j < 4; j++) {
        long in = blockAt + j * PANEL_BYTES;
        IntVector wa = loadInts(in);
        IntVector wb = loadInts(in + VECTOR_BYTES);
        for (int n = 0; n < 4; n++) {
          FloatVector v = broadcast(xk);
          a = v.fma(wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa), a);
          b = v.fma(wb.and(mask).or(one).reinterpretAsFloats().fma(sb, ob), b);
          wa = wa.lanewise(ROR, 4);
          wb = wb.lanewise(ROR, 4);
          v = broadcast(xk + xStep);
          a = v.fma(wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa), a);
          b = v.fma(wb.and(mask).or(one).reinterpretAsFloats().fma(sb, ob), b);
          wa = wa.lanewise(ROR, 4);
          wb = wb.lanewise(ROR, 4);
          xk += 2 * xStep;
        }
      }
      blockAt += blockStep;
      scalesAt += 2 * PANEL_BYTES;
    }
    store(a, out);
    store(b, out + VECTOR_BYTES);
  }

  private static void bytes(
      long block,
      long blockStep,
      int blocks,
      int words,
      long scales,
      long x,
      long xStep,
      long init,
      long out) {
    IntVector mask = IntVector.broadcast(I, UnpackKernels.BYTE);
    IntVector one = IntVector.broadcast(I, UnpackKernels.ONE);
    FloatVector a = load(init);
    FloatVector b = load(init + VECTOR_BYTES);
    long blockAt = block;
    long scalesAt = scales;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = load(scalesAt);
      FloatVector sb = load(scalesAt + VECTOR_BYTES);
      FloatVector oa = load(scalesAt + PANEL_BYTES);
      FloatVector ob = load(scalesAt + PANEL_BYTES + VECTOR_BYTES);
      for (int j = 0; j < words; j++) {
        long in = blockAt + j * PANEL_BYTES;
        IntVector wa = loadInts(in);
        IntVector wb = loadInts(in + VECTOR_BYTES);
        for (int n = 0; n < 2; n++) {
          FloatVector v = broadcast(xk);
          a = v.fma(wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa), a);
          b = v.fma(wb.and(mask).or(one).reinterpretAsFloats().fma(sb, ob), b);
          wa = wa.lanewise(ROR, 8);
          wb = wb.lanewise(ROR, 8);
          v = broadcast(xk + xStep);
          a = v.fma(wa.and(mask).or(one).reinterpretAsFloats().fma(sa, oa), a);
          b = v.fma(wb.and(mask).or(one).reinterpretAsFloats().fma(sb, ob), b);
          wa = wa.lanewise(ROR, 8);
          wb = wb.lanewise(ROR, 8);
          xk += 2 * xStep;
        }
      }
      blockAt += blockStep;
      scalesAt += 2 * PANEL_BYTES;
    }
    store(a, out);
    store(b, out + VECTOR_BYTES);
  }
}
