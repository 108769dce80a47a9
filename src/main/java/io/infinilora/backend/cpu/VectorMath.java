package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.load;
import static io.infinilora.backend.cpu.Memory.loadPart;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;
import jdk.incubator.vector.VectorOperators;

/**
 * Functions of vectors whose result is the same in the interpreter and in compiled code, on every
 * machine with the same number of lanes: neither the vector library behind {@link
 * VectorOperators#EXP} nor the order of {@code reduceLanes(ADD)} is specified.
 */
final class VectorMath {
  /** Below it exp is less than the smallest normal float, and 0 here. */
  private static final float LEAST = -87.33f;

  /** Above it 2^n would overflow; exp stays at its value there, 2e38. */
  private static final float MOST = 88.3f;

  private static final float LOG2_E = 1.44269504f;

  /** ln 2 in two parts; the first has few enough bits that its multiples by n are exact. */
  private static final float LN2_HIGH = 0.693359375f;

  private static final float LN2_LOW = -2.12194440e-4f;

  /** 1.5 * 2^23: adding it rounds to an integer and leaves that in the low mantissa bits. */
  private static final float ROUND = 12582912f;

  private VectorMath() {}

  /**
   * e^x with a relative error below 2e-7: x = n ln 2 + r, |r| <= ln 2 / 2, the Taylor polynomial of
   * degree 7 in r, and n added to the exponent. NaN stays NaN.
   */
  static FloatVector exp(FloatVector x) {
    FloatVector bounded = x.max(LEAST).min(MOST);
    FloatVector shifted =
        bounded.fma(FloatVector.broadcast(F, LOG2_E), FloatVector.broadcast(F, ROUND));
    FloatVector n = shifted.sub(ROUND);
    FloatVector r = n.fma(FloatVector.broadcast(F, -LN2_HIGH), bounded);
    r = n.fma(FloatVector.broadcast(F, -LN2_LOW), r);
    FloatVector p = FloatVector.broadcast(F, 1f / 5040);
    p = p.fma(r, FloatVector.broadcast(F, 1f / 720));
    p = p.fma(r, FloatVector.broadcast(F, 1f / 120));
    p = p.fma(r, FloatVector.broadcast(F, 1f / 24));
    p = p.fma(r, FloatVector.broadcast(F, 1f / 6));
    p = p.fma(r, FloatVector.broadcast(F, 0.5f));
    p = p.fma(r, FloatVector.broadcast(F, 1f));
    p = p.fma(r, FloatVector.broadcast(F, 1f));
    IntVector exponent =
        shifted
            .reinterpretAsInts()
            .add(127 - Float.floatToRawIntBits(ROUND))
            .lanewise(VectorOperators.LSHL, 23);
    FloatVector result = p.mul(exponent.reinterpretAsFloats());
    return result.blend(0f, x.compare(VectorOperators.LT, LEAST));
  }

  /** {@code 1 / (1 + e^-x)}. */
  static FloatVector sigmoid(FloatVector x) {
    return FloatVector.broadcast(F, 1f).div(exp(x.neg()).add(1f));
  }

  /**
   * Sum of the lanes in a fixed order.
   *
   * @param scratch memory for one vector
   */
  static float sum(FloatVector v, long scratch) {
    Memory.store(v, scratch);
    float sum = 0;
    for (int i = 0; i < LANES; i++) {
      sum += Memory.get(scratch + 4L * i);
    }
    return sum;
  }

  /** Largest of {@code n >= 1} elements; NaN if any is NaN. */
  static float max(long x, int n) {
    FloatVector a = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
    FloatVector b = a;
    int i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
      a = a.max(load(x + 4L * i));
      b = b.max(load(x + 4L * (i + LANES)));
    }
    float most = a.max(b).reduceLanes(VectorOperators.MAX);
    for (; i < n; i++) {
      most = Math.max(most, Memory.get(x + 4L * i));
    }
    return most;
  }

  /** Lowest index of an element equal to {@code value}; -1 if there is none. */
  static int indexOf(long x, int n, float value) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      if (load(x + 4L * i).compare(VectorOperators.EQ, value).anyTrue()) {
        break;
      }
    }
    for (; i < n; i++) {
      if (Memory.get(x + 4L * i) == value) {
        return i;
      }
    }
    return -1;
  }

  /**
   * Sum of {@code e^((x_i - shift) factor)}, in double over vectors of partial sums.
   *
   * @param scratch memory for one vector
   */
  static double sumExp(long x, int n, float shift, float factor, long scratch) {
    double total = 0;
    for (int from = 0; from < n; from += 64 * LANES) {
      int to = Math.min(n, from + 64 * LANES);
      FloatVector acc = FloatVector.zero(F);
      int i = from;
      for (; i + LANES <= to; i += LANES) {
        acc = acc.add(exp(load(x + 4L * i).sub(shift).mul(factor)));
      }
      if (i < to) {
        FloatVector last = exp(loadPart(x + 4L * i, to - i).sub(shift).mul(factor));
        acc = acc.add(last.blend(0f, F.indexInRange(0, to - i).not()));
      }
      total += sum(acc, scratch);
    }
    return total;
  }
}
