package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.LE;

import io.infinilora.core.Activation;
import jdk.incubator.vector.FloatVector;

/** Norms, activations, the rotation and sums. {@code n} counts elements, addresses are bytes. */
final class ElementKernels {
  /** Elements whose exponentials are in scratch memory at a time. */
  private static final int GATED_ELEMENTS = 1024;

  /** Bytes of scratch memory of {@link #gated}; a multiple of all vectors' lengths. */
  static final int GATED_SCRATCH = 4 * GATED_ELEMENTS;

  /** Bound of {@link Activation#SWIGLU_CLAMPED}. */
  private static final float LIMIT = 7;

  private ElementKernels() {}

  /** {@code y += factor x}; the product is rounded by itself, as if it had been stored before. */
  static void addScaled(long x, float factor, long y, long n) {
    FloatVector f = FloatVector.broadcast(F, factor);
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector.fromMemorySegment(F, ALL, x + 4 * i, LE)
          .mul(f)
          .add(FloatVector.fromMemorySegment(F, ALL, y + 4 * i, LE))
          .intoMemorySegment(ALL, y + 4 * i, LE);
    }
    if (i < n) {
      int rest = (int) (n - i);
      FloatVector.fromMemorySegment(F, ALL, x + 4 * i, LE, F.indexInRange(0, rest))
          .mul(f)
          .add(FloatVector.fromMemorySegment(F, ALL, y + 4 * i, LE, F.indexInRange(0, rest)))
          .intoMemorySegment(ALL, y + 4 * i, LE, F.indexInRange(0, rest));
    }
  }

  /** {@code x *= factor}. */
  static void scale(long x, float factor, long n) {
    FloatVector f = FloatVector.broadcast(F, factor);
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector.fromMemorySegment(F, ALL, x + 4 * i, LE)
          .mul(f)
          .intoMemorySegment(ALL, x + 4 * i, LE);
    }
    if (i < n) {
      int rest = (int) (n - i);
      FloatVector.fromMemorySegment(F, ALL, x + 4 * i, LE, F.indexInRange(0, rest))
          .mul(f)
          .intoMemorySegment(ALL, x + 4 * i, LE, F.indexInRange(0, rest));
    }
  }

  /** {@code out = x / sqrt(mean(x^2) + eps) * weight}; scratch holds one vector. */
  static void rmsNorm(long x, long weight, int n, float eps, long out, long scratch) {
    FloatVector squares = FloatVector.zero(F);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector v = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE);
      squares = v.fma(v, squares);
    }
    if (i < n) {
      FloatVector v =
          FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE, F.indexInRange(0, n - i));
      squares = v.fma(v, squares);
    }
    squares.intoMemorySegment(ALL, scratch, LE);
    float factor = (float) (1 / Math.sqrt((double) VectorMath.sum(scratch) / n + eps));
    i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE)
          .mul(factor)
          .mul(FloatVector.fromMemorySegment(F, ALL, weight + 4L * i, LE))
          .intoMemorySegment(ALL, out + 4L * i, LE);
    }
    if (i < n) {
      FloatVector v =
          FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE, F.indexInRange(0, n - i))
              .mul(factor);
      v.mul(FloatVector.fromMemorySegment(F, ALL, weight + 4L * i, LE, F.indexInRange(0, n - i)))
          .intoMemorySegment(ALL, out + 4L * i, LE, F.indexInRange(0, n - i));
    }
  }

  /**
   * {@code out = (x - mean(x)) / sqrt(var(x) + eps) * weight}, the variance from the differences;
   * scratch holds one vector.
   */
  static void layerNorm(long x, long weight, int n, float eps, long out, long scratch) {
    FloatVector sums = FloatVector.zero(F);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      sums = sums.add(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE));
    }
    if (i < n) {
      sums =
          sums.add(FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE, F.indexInRange(0, n - i)));
    }
    sums.intoMemorySegment(ALL, scratch, LE);
    float mean = VectorMath.sum(scratch) / n;
    FloatVector squares = FloatVector.zero(F);
    i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector v = FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE).sub(mean);
      squares = v.fma(v, squares);
    }
    if (i < n) {
      FloatVector v =
          FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE, F.indexInRange(0, n - i))
              .sub(mean)
              .blend(0f, F.indexInRange(0, n - i).not());
      squares = v.fma(v, squares);
    }
    squares.intoMemorySegment(ALL, scratch, LE);
    float factor = (float) (1 / Math.sqrt((double) VectorMath.sum(scratch) / n + eps));
    i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE)
          .sub(mean)
          .mul(factor)
          .mul(FloatVector.fromMemorySegment(F, ALL, weight + 4L * i, LE))
          .intoMemorySegment(ALL, out + 4L * i, LE);
    }
    if (i < n) {
      FloatVector v =
          FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE, F.indexInRange(0, n - i))
              .sub(mean)
              .mul(factor);
      v.mul(FloatVector.fromMemorySegment(F, ALL, weight + 4L * i, LE, F.indexInRange(0, n - i)))
          .intoMemorySegment(ALL, out + 4L * i, LE, F.indexInRange(0, n - i));
    }
  }

  /** Bounds to {@code -bound .. bound}, in place; NaN stays. */
  static void clamp(long x, float bound, long n) {
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector.fromMemorySegment(F, ALL, x + 4 * i, LE)
          .min(bound)
          .max(-bound)
          .intoMemorySegment(ALL, x + 4 * i, LE);
    }
    if (i < n) {
      int rest = (int) (n - i);
      FloatVector.fromMemorySegment(F, ALL, x + 4 * i, LE, F.indexInRange(0, rest))
          .min(bound)
          .max(-bound)
          .intoMemorySegment(ALL, x + 4 * i, LE, F.indexInRange(0, rest));
    }
  }

  /**
   * {@code y += sum over i in from .. to-1 of weights[i] x[places[i]]}, summed in that order before
   * it is added.
   *
   * @param x row 0, stride bytes apart
   */
  static void addWeightedSum(
      long x, long stride, int[] places, float[] weights, int from, int to, long y, int n) {
    int k = 0;
    for (; k + LANES <= n; k += LANES) {
      long at = x + 4L * k;
      FloatVector sum = FloatVector.zero(F);
      for (int i = from; i < to; i++) {
        sum =
            FloatVector.broadcast(F, weights[i])
                .fma(FloatVector.fromMemorySegment(F, ALL, at + places[i] * stride, LE), sum);
      }
      FloatVector.fromMemorySegment(F, ALL, y + 4L * k, LE)
          .add(sum)
          .intoMemorySegment(ALL, y + 4L * k, LE);
    }
    if (k < n) {
      long at = x + 4L * k;
      FloatVector sum = FloatVector.zero(F);
      for (int i = from; i < to; i++) {
        sum =
            FloatVector.broadcast(F, weights[i])
                .fma(
                    FloatVector.fromMemorySegment(
                        F, ALL, at + places[i] * stride, LE, F.indexInRange(0, n - k)),
                    sum);
      }
      FloatVector.fromMemorySegment(F, ALL, y + 4L * k, LE, F.indexInRange(0, n - k))
          .add(sum)
          .intoMemorySegment(ALL, y + 4L * k, LE, F.indexInRange(0, n - k));
    }
  }

  /**
   * {@code out = activation(gate, up)}.
   *
   * @param gate readable to a whole vector; may be {@code out}
   * @param scratch memory for {@link #GATED_SCRATCH} bytes
   */
  static void gated(Activation activation, long gate, long up, long out, long n, long scratch) {
    for (long from = 0; from < n; from += GATED_ELEMENTS) {
      int count = (int) Math.min(n - from, GATED_ELEMENTS);
      long at = 4 * from;
      if (activation == Activation.SWIGLU) {
        VectorMath.exp(gate + at, count, 0, -1, scratch);
        swiglu(gate + at, up + at, out + at, count, scratch);
      } else {
        clampGate(gate + at, scratch, count);
        VectorMath.exp(scratch, count, 0, -1.702f, scratch);
        swigluClamped(gate + at, up + at, out + at, count, scratch);
      }
    }
  }

  /** {@code out = gate / (1 + e) * up}, e being e^-gate. */
  private static void swiglu(long gate, long up, long out, int n, long e) {
    FloatVector one = FloatVector.broadcast(F, 1f);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector sigmoid = one.div(FloatVector.fromMemorySegment(F, ALL, e + 4L * i, LE).add(one));
      FloatVector.fromMemorySegment(F, ALL, gate + 4L * i, LE)
          .mul(sigmoid)
          .mul(FloatVector.fromMemorySegment(F, ALL, up + 4L * i, LE))
          .intoMemorySegment(ALL, out + 4L * i, LE);
    }
    for (; i < n; i++) {
      float sigmoid = 1 / (Memory.get(e + 4L * i) + 1);
      Memory.set(out + 4L * i, Memory.get(gate + 4L * i) * sigmoid * Memory.get(up + 4L * i));
    }
  }

  private static void clampGate(long gate, long out, int n) {
    for (int i = 0; i < n; i += LANES) {
      FloatVector.fromMemorySegment(F, ALL, gate + 4L * i, LE)
          .min(LIMIT)
          .intoMemorySegment(ALL, out + 4L * i, LE);
    }
  }

  /** {@code out = g / (1 + e) * (u + 1)} with g and u within the limit, e being e^(-1.702 g). */
  private static void swigluClamped(long gate, long up, long out, int n, long e) {
    FloatVector one = FloatVector.broadcast(F, 1f);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector sigmoid = one.div(FloatVector.fromMemorySegment(F, ALL, e + 4L * i, LE).add(one));
      FloatVector u = FloatVector.fromMemorySegment(F, ALL, up + 4L * i, LE).min(LIMIT).max(-LIMIT);
      FloatVector.fromMemorySegment(F, ALL, gate + 4L * i, LE)
          .min(LIMIT)
          .mul(sigmoid)
          .mul(u.add(one))
          .intoMemorySegment(ALL, out + 4L * i, LE);
    }
    for (; i < n; i++) {
      float sigmoid = 1 / (Memory.get(e + 4L * i) + 1);
      float u = Math.max(Math.min(Memory.get(up + 4L * i), LIMIT), -LIMIT);
      Memory.set(out + 4L * i, Math.min(Memory.get(gate + 4L * i), LIMIT) * sigmoid * (u + 1));
    }
  }

  /**
   * Turns each pair (i, i + half) of a head, in place.
   *
   * @param angles half cosines, then half sines
   */
  static void rotate(long head, int half, long angles) {
    long bytes = 4L * half;
    for (int i = 0; i < half; i += LANES) {
      int n = Math.min(LANES, half - i);
      long at = 4L * i;
      FloatVector a = FloatVector.fromMemorySegment(F, ALL, head + at, LE, F.indexInRange(0, n));
      FloatVector b =
          FloatVector.fromMemorySegment(F, ALL, head + bytes + at, LE, F.indexInRange(0, n));
      FloatVector cos =
          FloatVector.fromMemorySegment(F, ALL, angles + at, LE, F.indexInRange(0, n));
      FloatVector sin =
          FloatVector.fromMemorySegment(F, ALL, angles + bytes + at, LE, F.indexInRange(0, n));
      a.mul(cos).sub(b.mul(sin)).intoMemorySegment(ALL, head + at, LE, F.indexInRange(0, n));
      b.mul(cos)
          .add(a.mul(sin))
          .intoMemorySegment(ALL, head + bytes + at, LE, F.indexInRange(0, n));
    }
  }
}
