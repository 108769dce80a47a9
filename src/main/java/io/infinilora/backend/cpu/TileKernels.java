package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.FLOAT;
import static io.infinilora.backend.cpu.Memory.LE;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;

import jdk.incubator.vector.FloatVector;

/**
 * The float32 product that everything dense comes down to: {@code out[r][lane] = init[r][lane] +
 * sum over k of x[r][k] * w[k][lane]}, for a panel of two vectors of lanes. Each element is one
 * chain of fused multiply-adds in order of k, whatever the number of rows, so that a row's result
 * does not depend on how rows are tiled; splitting k and passing the previous part as {@code init}
 * changes nothing either.
 *
 * <p>Six rows by two vectors keep 12 accumulators in registers: enough to cover the latency of the
 * FMA units and few enough for machines with 16 vector registers.
 */
final class TileKernels {
  /** Lanes of a panel. */
  static final int PANEL = 2 * Memory.LANES;

  /** Bytes of one k of a float32 panel. */
  static final long PANEL_BYTES = 2L * VECTOR_BYTES;

  /** Bytes between two k of x: not final, so that it is no constant to C2 (see above). */
  private static long step = Float.BYTES;

  private TileKernels() {}

  /** The bytes of a float, as a value that C2 does not know. */
  static long step() {
    return step;
  }

  /**
   * Any number of rows.
   *
   * @param w0 first vector of the panel at k = 0
   * @param w1 second vector
   * @param wStep bytes from k to k + 1
   * @param depth number of k
   * @param x first row of inputs, xStride bytes apart
   * @param init start values, initStride bytes apart (0 for the same in each row, as a bias)
   * @param out results, outStride bytes apart; may be {@code init}
   */
  static void multiply(
      int rows,
      long w0,
      long w1,
      long wStep,
      int depth,
      long x,
      long xStride,
      long init,
      long initStride,
      long out,
      long outStride) {
    int r = 0;
    // Eight rows are two tiles of four: six and two would leave the second short of chains.
    for (; r + 6 <= rows && rows - r != 8; r += 6) {
      tile6(
          w0,
          w1,
          wStep,
          depth,
          x + r * xStride,
          step,
          xStride,
          init + r * initStride,
          initStride,
          out + r * outStride,
          outStride);
    }
    for (; r + 4 <= rows; r += 4) {
      tile4(
          w0,
          w1,
          wStep,
          depth,
          x + r * xStride,
          step,
          xStride,
          init + r * initStride,
          initStride,
          out + r * outStride,
          outStride);
    }
    if (r + 2 <= rows) {
      tile2(
          w0,
          w1,
          wStep,
          depth,
          x + r * xStride,
          step,
          xStride,
          init + r * initStride,
          initStride,
          out + r * outStride,
          outStride);
      r += 2;
    }
    if (r < rows) {
      tile1(
          w0, w1, wStep, depth, x + r * xStride, step, init + r * initStride, out + r * outStride);
    }
  }

  private static void tile6(
      long w,
      long w1,
      long wStep,
      int depth,
      long x,
      long xStep,
      long xStride,
      long init,
      long initStride,
      long out,
      long outStride) {
    FloatVector a0 = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b0 = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector a1 = FloatVector.fromMemorySegment(F, ALL, init + initStride, LE);
    FloatVector b1 = FloatVector.fromMemorySegment(F, ALL, init + initStride + VECTOR_BYTES, LE);
    FloatVector a2 = FloatVector.fromMemorySegment(F, ALL, init + 2 * initStride, LE);
    FloatVector b2 =
        FloatVector.fromMemorySegment(F, ALL, init + 2 * initStride + VECTOR_BYTES, LE);
    FloatVector a3 = FloatVector.fromMemorySegment(F, ALL, init + 3 * initStride, LE);
    FloatVector b3 =
        FloatVector.fromMemorySegment(F, ALL, init + 3 * initStride + VECTOR_BYTES, LE);
    FloatVector a4 = FloatVector.fromMemorySegment(F, ALL, init + 4 * initStride, LE);
    FloatVector b4 =
        FloatVector.fromMemorySegment(F, ALL, init + 4 * initStride + VECTOR_BYTES, LE);
    FloatVector a5 = FloatVector.fromMemorySegment(F, ALL, init + 5 * initStride, LE);
    FloatVector b5 =
        FloatVector.fromMemorySegment(F, ALL, init + 5 * initStride + VECTOR_BYTES, LE);
    long second = w1 - w;
    long wk = w;
    long xk = x;
    long zk = x + 3 * xStride;
    for (int k = 0; k < depth; k++) {
      FloatVector wa = FloatVector.fromMemorySegment(F, ALL, wk, LE);
      FloatVector wb = FloatVector.fromMemorySegment(F, ALL, wk + second, LE);
      FloatVector v = FloatVector.broadcast(F, ALL.get(FLOAT, xk));
      a0 = v.fma(wa, a0);
      b0 = v.fma(wb, b0);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + xStride));
      a1 = v.fma(wa, a1);
      b1 = v.fma(wb, b1);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + 2 * xStride));
      a2 = v.fma(wa, a2);
      b2 = v.fma(wb, b2);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, zk));
      a3 = v.fma(wa, a3);
      b3 = v.fma(wb, b3);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, zk + xStride));
      a4 = v.fma(wa, a4);
      b4 = v.fma(wb, b4);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, zk + 2 * xStride));
      a5 = v.fma(wa, a5);
      b5 = v.fma(wb, b5);
      wk += wStep;
      xk += xStep;
      zk += xStep;
    }
    a0.intoMemorySegment(ALL, out, LE);
    b0.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
    a1.intoMemorySegment(ALL, out + outStride, LE);
    b1.intoMemorySegment(ALL, out + outStride + VECTOR_BYTES, LE);
    a2.intoMemorySegment(ALL, out + 2 * outStride, LE);
    b2.intoMemorySegment(ALL, out + 2 * outStride + VECTOR_BYTES, LE);
    a3.intoMemorySegment(ALL, out + 3 * outStride, LE);
    b3.intoMemorySegment(ALL, out + 3 * outStride + VECTOR_BYTES, LE);
    a4.intoMemorySegment(ALL, out + 4 * outStride, LE);
    b4.intoMemorySegment(ALL, out + 4 * outStride + VECTOR_BYTES, LE);
    a5.intoMemorySegment(ALL, out + 5 * outStride, LE);
    b5.intoMemorySegment(ALL, out + 5 * outStride + VECTOR_BYTES, LE);
  }

  private static void tile4(
      long w,
      long w1,
      long wStep,
      int depth,
      long x,
      long xStep,
      long xStride,
      long init,
      long initStride,
      long out,
      long outStride) {
    FloatVector a0 = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b0 = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector a1 = FloatVector.fromMemorySegment(F, ALL, init + initStride, LE);
    FloatVector b1 = FloatVector.fromMemorySegment(F, ALL, init + initStride + VECTOR_BYTES, LE);
    FloatVector a2 = FloatVector.fromMemorySegment(F, ALL, init + 2 * initStride, LE);
    FloatVector b2 =
        FloatVector.fromMemorySegment(F, ALL, init + 2 * initStride + VECTOR_BYTES, LE);
    FloatVector a3 = FloatVector.fromMemorySegment(F, ALL, init + 3 * initStride, LE);
    FloatVector b3 =
        FloatVector.fromMemorySegment(F, ALL, init + 3 * initStride + VECTOR_BYTES, LE);
    long second = w1 - w;
    long wk = w;
    long xk = x;
    for (int k = 0; k < depth; k++) {
      FloatVector wa = FloatVector.fromMemorySegment(F, ALL, wk, LE);
      FloatVector wb = FloatVector.fromMemorySegment(F, ALL, wk + second, LE);
      FloatVector v = FloatVector.broadcast(F, ALL.get(FLOAT, xk));
      a0 = v.fma(wa, a0);
      b0 = v.fma(wb, b0);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + xStride));
      a1 = v.fma(wa, a1);
      b1 = v.fma(wb, b1);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + 2 * xStride));
      a2 = v.fma(wa, a2);
      b2 = v.fma(wb, b2);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + 3 * xStride));
      a3 = v.fma(wa, a3);
      b3 = v.fma(wb, b3);
      wk += wStep;
      xk += xStep;
    }
    a0.intoMemorySegment(ALL, out, LE);
    b0.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
    a1.intoMemorySegment(ALL, out + outStride, LE);
    b1.intoMemorySegment(ALL, out + outStride + VECTOR_BYTES, LE);
    a2.intoMemorySegment(ALL, out + 2 * outStride, LE);
    b2.intoMemorySegment(ALL, out + 2 * outStride + VECTOR_BYTES, LE);
    a3.intoMemorySegment(ALL, out + 3 * outStride, LE);
    b3.intoMemorySegment(ALL, out + 3 * outStride + VECTOR_BYTES, LE);
  }

  private static void tile2(
      long w,
      long w1,
      long wStep,
      int depth,
      long x,
      long xStep,
      long xStride,
      long init,
      long initStride,
      long out,
      long outStride) {
    FloatVector a0 = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b0 = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector a1 = FloatVector.fromMemorySegment(F, ALL, init + initStride, LE);
    FloatVector b1 = FloatVector.fromMemorySegment(F, ALL, init + initStride + VECTOR_BYTES, LE);
    long second = w1 - w;
    long wk = w;
    long xk = x;
    for (int k = 0; k < depth; k++) {
      FloatVector wa = FloatVector.fromMemorySegment(F, ALL, wk, LE);
      FloatVector wb = FloatVector.fromMemorySegment(F, ALL, wk + second, LE);
      FloatVector v = FloatVector.broadcast(F, ALL.get(FLOAT, xk));
      a0 = v.fma(wa, a0);
      b0 = v.fma(wb, b0);
      v = FloatVector.broadcast(F, ALL.get(FLOAT, xk + xStride));
      a1 = v.fma(wa, a1);
      b1 = v.fma(wb, b1);
      wk += wStep;
      xk += xStep;
    }
    a0.intoMemorySegment(ALL, out, LE);
    b0.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
    a1.intoMemorySegment(ALL, out + outStride, LE);
    b1.intoMemorySegment(ALL, out + outStride + VECTOR_BYTES, LE);
  }

  private static void tile1(
      long w, long w1, long wStep, int depth, long x, long xStep, long init, long out) {
    FloatVector a0 = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector b0 = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    long second = w1 - w;
    long wk = w;
    long xk = x;
    for (int k = 0; k < depth; k++) {
      FloatVector wa = FloatVector.fromMemorySegment(F, ALL, wk, LE);
      FloatVector wb = FloatVector.fromMemorySegment(F, ALL, wk + second, LE);
      FloatVector v = FloatVector.broadcast(F, ALL.get(FLOAT, xk));
      a0 = v.fma(wa, a0);
      b0 = v.fma(wb, b0);
      wk += wStep;
      xk += xStep;
    }
    a0.intoMemorySegment(ALL, out, LE);
    b0.intoMemorySegment(ALL, out + VECTOR_BYTES, LE);
  }
}
