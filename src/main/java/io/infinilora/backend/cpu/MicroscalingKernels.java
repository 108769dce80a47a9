package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.Memory.broadcast;
import static io.infinilora.backend.cpu.Memory.load;
import static io.infinilora.backend.cpu.Memory.loadInts;
import static io.infinilora.backend.cpu.Memory.store;
import static io.infinilora.backend.cpu.TileKernels.PANEL_BYTES;
import static jdk.incubator.vector.VectorOperators.LSHL;
import static jdk.incubator.vector.VectorOperators.LSHR;

import java.lang.foreign.Arena;
import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/**
 * Panels of 4-bit floats ({@link PackedFormat#E2M1}): the counterparts of {@link UnpackKernels} and
 * {@link RowKernels}. The bits of a float are looked up by its four bits, in one register where
 * that has 16 lanes, else by the lower three. Times its scale, a power of two, the weight is exact.
 */
final class MicroscalingKernels {
  private static final int SIGN = 0x80000000;

  /**
   * Adjusts the exponent of 4-bit floats whose low three bits were put at the top of a mantissa.
   */
  private static final float BIAS = 0x1p126f;

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

  /** The floats in the low four bits of the words. */
  private static FloatVector decode(IntVector words, IntVector table) {
    if (LANES >= 16) {
      return words.and(15).selectFrom(table).reinterpretAsFloats();
    }
    IntVector sign = words.lanewise(LSHL, 28).and(SIGN);
    if (LANES == 8) {
      return words.and(7).selectFrom(table).or(sign).reinterpretAsFloats();
    }
    // A subnormal float is a number like any other here: the product with the bias is exact.
    return words
        .and(7)
        .lanewise(LSHL, 22)
        .reinterpretAsFloats()
        .mul(BIAS)
        .reinterpretAsInts()
        .or(sign)
        .reinterpretAsFloats();
  }

  /**
   * Writes whole blocks of columns of a panel.
   *
   * @param block first block
   * @param out {@link TileKernels#PANEL_BYTES} per column, {@code outStep} bytes apart
   */
  static void unpack(long block, long blockStep, int blocks, long out, long outStep) {
    IntVector table = loadInts(TABLE);
    long blockAt = block;
    long to = out;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = load(blockAt);
      FloatVector sb = load(blockAt + VECTOR_BYTES);
      for (int j = 1; j <= 4; j++) {
        IntVector wa = loadInts(blockAt + j * PANEL_BYTES);
        IntVector wb = loadInts(blockAt + j * PANEL_BYTES + VECTOR_BYTES);
        for (int n = 0; n < 8; n++) {
          store(decode(wa, table).mul(sa), to);
          store(decode(wb, table).mul(sb), to + VECTOR_BYTES);
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
    IntVector table = loadInts(TABLE);
    FloatVector a = load(init);
    FloatVector b = load(init + VECTOR_BYTES);
    FloatVector c = load(secondInit);
    FloatVector d = load(secondInit + VECTOR_BYTES);
    long block = first;
    long toSecond = second - first;
    long xk = x;
    for (int i = 0; i < blocks; i++) {
      FloatVector sa = load(block);
      FloatVector sb = load(block + VECTOR_BYTES);
      FloatVector sc = load(block + toSecond);
      FloatVector sd = load(block + toSecond + VECTOR_BYTES);
      for (int j = 1; j <= 4; j++) {
        long in = block + j * PANEL_BYTES;
        IntVector wa = loadInts(in);
        IntVector wb = loadInts(in + VECTOR_BYTES);
        IntVector wc = loadInts(in + toSecond);
        IntVector wd = loadInts(in + toSecond + VECTOR_BYTES);
        for (int n = 0; n < 8; n++) {
          FloatVector v = broadcast(xk);
          a = v.fma(decode(wa, table).mul(sa), a);
          b = v.fma(decode(wb, table).mul(sb), b);
          c = v.fma(decode(wc, table).mul(sc), c);
          d = v.fma(decode(wd, table).mul(sd), d);
          wa = wa.lanewise(LSHR, 4);
          wb = wb.lanewise(LSHR, 4);
          wc = wc.lanewise(LSHR, 4);
          wd = wd.lanewise(LSHR, 4);
          xk += xStep;
        }
      }
      block += blockStep;
    }
    store(a, out);
    store(b, out + VECTOR_BYTES);
    store(c, secondOut);
    store(d, secondOut + VECTOR_BYTES);
  }
}
