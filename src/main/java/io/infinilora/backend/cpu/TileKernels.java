package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static io.infinilora.backend.cpu.Memory.broadcast;
import static io.infinilora.backend.cpu.Memory.load;
import static io.infinilora.backend.cpu.Memory.store;

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
    for (; r + 6 <= rows; r += 6) {
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
    if (r + 4 <= rows) {
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
      r += 4;
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
    FloatVector a0 = load(init);
    FloatVector b0 = load(init + VECTOR_BYTES);
    FloatVector a1 = load(init + initStride);
    FloatVector b1 = load(init + initStride + VECTOR_BYTES);
    FloatVector a2 = load(init + 2 * initStride);
    FloatVector b2 = load(init + 2 * initStride + VECTOR_BYTES);
    FloatVector a3 = load(init + 3 * initStride);
    FloatVector b3 = load(init + 3 * initStride + VECTOR_BYTES);
    FloatVector a4 = load(init + 4 * initStride);
    FloatVector b4 = load(init + 4 * initStride + VECTOR_BYTES);
    FloatVector a5 = load(init + 5 * initStride);
    FloatVector b5 = load(init + 5 * initStride + VECTOR_BYTES);
    long second = w1 - w;
    long wk = w;
    long xk = x;
    long zk = x + 3 * xStride;
    for (int k = 0; k < depth; k++) {
      FloatVector wa = load(wk);
      FloatVector wb = load(wk + second);
      FloatVector v = broadcast(xk);
      a0 = v.fma(wa, a0);
      b0 = v.fma(wb, b0);
      v = broadcast(xk + xStride);
      a1 = v.fma(wa, a1);
      b1 = v.fma(wb, b1);
      v = broadcast(xk + 2 * xStride);
      a2 = v.fma(wa, a2);
      b2 = v.fma(wb, b2);
      v = broadcast(zk);
      a3 = v.fma(wa, a3);
      b3 = v.fma(wb, b3);
      v = broadcast(zk + xStride);
      a4 = v.fma(wa, a4);
      b4 = v.fma(wb, b4);
      v = broadcast(zk + 2 * xStride);
      a5 = v.fma(wa, a5);
      b5 = v.fma(wb, b5);
      wk += wStep;
      xk += xStep;
      zk += xStep;
    }
    store(a0, out);
    store(b0, out + VECTOR_BYTES);
    store(a1, out + outStride);
    store(b1, out + outStride + VECTOR_BYTES);
    store(a2, out + 2 * outStride);
    store(b2, out + 2 * outStride + VECTOR_BYTES);
    store(a3, out + 3 * outStride);
    store(b3, out + 3 * outStride + VECTOR_BYTES);
    store(a4, out + 4 * outStride);
    store(b4, out + 4 * outStride + VECTOR_BYTES);
    store(a5, out + 5 * outStride);
    store(b5, out + 5 * outStride + VECTOR_BYTES);
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
    FloatVector a0 = load(init);
    FloatVector b0 = load(init + VECTOR_BYTES);
    FloatVector a1 = load(init + initStride);
    FloatVector b1 = load(init + initStride + VECTOR_BYTES);
    FloatVector a2 = load(init + 2 * initStride);
    FloatVector b2 = load(init + 2 * initStride + VECTOR_BYTES);
    FloatVector a3 = load(init + 3 * initStride);
    FloatVector b3 = load(init + 3 * initStride + VECTOR_BYTES);
    long second = w1 - w;
    long wk = w;
    long xk = x;
    for (int k = 0; k < depth; k++) {
      FloatVector wa = load(wk);
      FloatVector wb = load(wk + second);
      FloatVector v = broadcast(xk);
      a0 = v.fma(wa, a0);
      b0 = v.fma(wb, b0);
      v = broadcast(xk + xStride);
      a1 = v.fma(wa, a1);
      b1 = v.fma(wb, b1);
      v = broadcast(xk + 2 * xStride);
      a2 = v.fma(wa, a2);
      b2 = v.fma(wb, b2);
      v = broadcast(xk + 3 * xStride);
      a3 = v.fma(wa, a3);
      b3 = v.fma(wb, b3);
      wk += wStep;
      xk += xStep;
    }
    store(a0, out);
    store(b0, out + VECTOR_BYTES);
    store(a1, out + outStride);
    store(b1, out + outStride + VECTOR_BYTES);
    store(a2, out + 2 * outStride);
    store(b2, out + 2 * outStride + VECTOR_BYTES);
    store(a3, out + 3 * outStride);
    store(b3, out + 3 * outStride + VECTOR_BYTES);
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
    FloatVector a0 = load(init);
    FloatVector b0 = load(init + VECTOR_BYTES);
    FloatVector a1 = load(init + initStride);
    FloatVector b1 = load(init + initStride + VECTOR_BYTES);
    long second = w1 - w;
    long wk = w;
    long xk = x;
    for (int k = 0; k < depth; k++) {
      FloatVector wa = load(wk);
      FloatVector wb = load(wk + second);
      FloatVector v = broadcast(xk);
      a0 = v.fma(wa, a0);
      b0 = v.fma(wb, b0);
      v = broadcast(xk + xStride);
      a1 = v.fma(wa, a1);
      b1 = v.fma(wb, b1);
      wk += wStep;
      xk += xStep;
    }
    store(a0, out);
    store(b0, out + VECTOR_BYTES);
    store(a1, out + outStride);
    store(b1, out + outStride + VECTOR_BYTES);
  }

  private static void tile1(
      long w, long w1, long wStep, int depth, long x, long xStep, long init, long out) {
    FloatVector a0 = load(init);
    FloatVector b0 = load(init + VECTOR_BYTES);
    long second = w1 - w;
    long wk = w;
    long xk = x;
    for (int k = 0; k < depth; k++) {
      FloatVector wa = load(wk);
      FloatVector wb = load(wk + second);
      FloatVector v = broadcast(xk);
      a0 = v.fma(wa, a0);
      b0 = v.fma(wb, b0);
      wk += wStep;
      xk += xStep;
    }
    store(a0, out);
    store(b0, out + VECTOR_BYTES);
  }
}
