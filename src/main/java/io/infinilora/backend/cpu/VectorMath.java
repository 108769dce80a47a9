package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.LE;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;

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

  /** Elements that are summed in float32 before they go into a double. */
  private static final int SUM_ELEMENTS = 64 * LANES;

  /** Bytes of scratch memory of {@link #sumExp}. */
  static final int SUM_SCRATCH = 4 * SUM_ELEMENTS + VECTOR_BYTES;

  private VectorMath() {}

  /**
   * {@code out_i = e^((x_i - shift) factor)} with a relative error below 2e-7: x = n ln 2 + r, |r|
   * <= ln 2 / 2, the Taylor polynomial of degree 7 in r, and n added to the exponent. NaN stays
   * NaN.
   *
   * @param n elements; reads and writes whole vectors
   * @param out may be {@code x}
   */
  static void exp(long x, int n, float shift, float factor, long out) {
    for (int i = 0; i < n; i += LANES) {
      FloatVector v = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE).sub(shift).mul(factor);
      FloatVector bounded = v.max(LEAST).min(MOST);
      FloatVector shifted =
          bounded.fma(FloatVector.broadcast(F, LOG2_E), FloatVector.broadcast(F, ROUND));
      FloatVector whole = shifted.sub(ROUND);
      FloatVector r = whole.fma(FloatVector.broadcast(F, -LN2_HIGH), bounded);
      r = whole.fma(FloatVector.broadcast(F, -LN2_LOW), r);
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
      p.mul(exponent.reinterpretAsFloats())
          .blend(0f, v.compare(VectorOperators.LT, LEAST))
          .intoMemorySegment(ALL, out + 4L * i, LE);
    }
  }

  /** Sum of a vector's lanes in a fixed order. */
  static float sum(long vector) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) {
      sum += Memory.get(vector + 4L * i);
    }
    return sum;
  }

  /** Largest of {@code n >= 1} elements; NaN if any is NaN. */
  static float max(long x, int n) {
    FloatVector a = FloatVector.broadcast(F, Float.NEGATIVE_INFINITY);
    FloatVector b = a;
    int i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
      a = a.max(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE));
      b = b.max(FloatVector.fromMemorySegment(F, ALL, x + 4L * (i + LANES), LE));
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
      if (FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE)
          .compare(VectorOperators.EQ, value)
          .anyTrue()) {
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
   * @param x readable to a whole vector
   * @param scratch memory for {@link #SUM_SCRATCH} bytes
   */
  static double sumExp(long x, int n, float shift, float factor, long scratch) {
    double total = 0;
    long lanes = scratch + SUM_SCRATCH - VECTOR_BYTES;
    for (int from = 0; from < n; from += SUM_ELEMENTS) {
      int count = Math.min(n - from, SUM_ELEMENTS);
      exp(x + 4L * from, count, shift, factor, scratch);
      for (int i = count; i % LANES != 0; i++) {
        Memory.set(scratch + 4L * i, 0);
      }
      sumVectors(scratch, count, lanes);
      total += sum(lanes);
    }
    return total;
  }

  /** Sum of the vectors of {@code n} elements, filled up with zeros, lane by lane. */
  static void sumVectors(long x, int n, long out) {
    FloatVector sum = FloatVector.zero(F);
    for (int i = 0; i < n; i += LANES) {
      sum = sum.add(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE));
    }
    sum.intoMemorySegment(ALL, out, LE);
  }
}
