package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.Memory.broadcast;
import static io.infinilora.backend.cpu.Memory.load;
import static io.infinilora.backend.cpu.Memory.loadInts;
import static io.infinilora.backend.cpu.Memory.store;
import static io.infinilora.backend.cpu.TileKernels.PANEL_BYTES;
import static io.infinilora.backend.cpu.UnpackKernels.BYTE;
import static io.infinilora.backend.cpu.UnpackKernels.NIBBLE;
import static io.infinilora.backend.cpu.UnpackKernels.weight;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;

/**
 * One row times one panel without unpacking to memory first, for the formats of decoding. The
 * sequence of roundings of each element is that of {@link UnpackKernels} followed by {@link
 * TileKernels}.
 */
final class RowKernels {
  private RowKernels() {}

  /** Computes the panel, or returns false if the format has no kernel here. */
  static boolean multiply(PackedMatrix m, int p, long x, long out) {
    int blocks = m.in() / m.format().columns();
    switch (m.format()) {
      case Q4_HALF -> q4Half(m.panel(p), blocks, x, m.bias(p), out);
      case Q8_32 -> q8(m.panel(p), blocks, 8, x, m.bias(p), out);
      case Q8_16 -> q8(m.panel(p), blocks, 4, x, m.bias(p), out);
      case F32, BF16, F16, Q4_FLOAT, Q8_MIN -> {
        return false;
      }
    }
    return true;
  }

  private static void q4Half(long panel, int blocks, long x, long init, long out) {
    FloatVector a = load(init);
    FloatVector b = load(init + VECTOR_BYTES);
    long in = panel;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      IntVector scales = loadInts(in);
      FloatVector sa = UnpackKernels.lowHalf(scales, 16);
      FloatVector oa = UnpackKernels.highHalf(scales).sub(sa);
      scales = loadInts(in + VECTOR_BYTES);
      FloatVector sb = UnpackKernels.lowHalf(scales, 16);
      FloatVector ob = UnpackKernels.highHalf(scales).sub(sb);
      for (int j = 1; j <= 4; j++) {
        IntVector wa = loadInts(in + j * PANEL_BYTES);
        IntVector wb = loadInts(in + j * PANEL_BYTES + VECTOR_BYTES);
        FloatVector v = broadcast(xk);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHL, 19), NIBBLE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHL, 19), NIBBLE, sb, ob), b);
        v = broadcast(xk + 4);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHL, 15), NIBBLE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHL, 15), NIBBLE, sb, ob), b);
        v = broadcast(xk + 8);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHL, 11), NIBBLE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHL, 11), NIBBLE, sb, ob), b);
        v = broadcast(xk + 12);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHL, 7), NIBBLE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHL, 7), NIBBLE, sb, ob), b);
        v = broadcast(xk + 16);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHL, 3), NIBBLE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHL, 3), NIBBLE, sb, ob), b);
        v = broadcast(xk + 20);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHR, 1), NIBBLE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHR, 1), NIBBLE, sb, ob), b);
        v = broadcast(xk + 24);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHR, 5), NIBBLE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHR, 5), NIBBLE, sb, ob), b);
        v = broadcast(xk + 28);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHR, 9), NIBBLE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHR, 9), NIBBLE, sb, ob), b);
        xk += 32;
      }
      in += 5 * PANEL_BYTES;
    }
    store(a, out);
    store(b, out + VECTOR_BYTES);
  }

  private static void q8(long panel, int blocks, int words, long x, long init, long out) {
    FloatVector a = load(init);
    FloatVector b = load(init + VECTOR_BYTES);
    long in = panel;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = load(in);
      FloatVector oa = sa.mul(-1.5f);
      FloatVector sb = load(in + VECTOR_BYTES);
      FloatVector ob = sb.mul(-1.5f);
      for (int j = 1; j <= words; j++) {
        IntVector wa = loadInts(in + j * PANEL_BYTES);
        IntVector wb = loadInts(in + j * PANEL_BYTES + VECTOR_BYTES);
        FloatVector v = broadcast(xk);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHL, 15), BYTE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHL, 15), BYTE, sb, ob), b);
        v = broadcast(xk + 4);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHL, 7), BYTE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHL, 7), BYTE, sb, ob), b);
        v = broadcast(xk + 8);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHR, 1), BYTE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHR, 1), BYTE, sb, ob), b);
        v = broadcast(xk + 12);
        a = v.fma(weight(wa.lanewise(VectorOperators.LSHR, 9), BYTE, sa, oa), a);
        b = v.fma(weight(wb.lanewise(VectorOperators.LSHR, 9), BYTE, sb, ob), b);
        xk += 16;
      }
      in += (1 + words) * PANEL_BYTES;
    }
    store(a, out);
    store(b, out + VECTOR_BYTES);
  }
}
