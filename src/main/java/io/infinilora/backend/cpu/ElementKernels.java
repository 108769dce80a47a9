package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.load;
import static io.infinilora.backend.cpu.Memory.loadPart;
import static io.infinilora.backend.cpu.Memory.store;
import static io.infinilora.backend.cpu.Memory.storePart;

import io.infinilora.core.Activation;
import jdk.incubator.vector.FloatVector;

/** Norms, activations, the rotation and sums. {@code n} counts elements, addresses are bytes. */
final class ElementKernels {
  private ElementKernels() {}

  /** {@code y += factor x}; the product is rounded by itself, as if it had been stored before. */
  static void addScaled(long x, float factor, long y, long n) {
    FloatVector f = FloatVector.broadcast(F, factor);
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
      store(load(x + 4 * i).mul(f).add(load(y + 4 * i)), y + 4 * i);
    }
    if (i < n) {
      int rest = (int) (n - i);
      storePart(loadPart(x + 4 * i, rest).mul(f).add(loadPart(y + 4 * i, rest)), y + 4 * i, rest);
    }
  }

  /** {@code out = x / sqrt(mean(x^2) + eps) * weight}; scratch holds one vector. */
  static void rmsNorm(long x, long weight, int n, float eps, long out, long scratch) {
    FloatVector squares = FloatVector.zero(F);
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector v = load(x + 4L * i);
      squares = v.fma(v, squares);
    }
    if (i < n) {
      FloatVector v = loadPart(x + 4L * i, n - i);
      squares = v.fma(v, squares);
    }
    float factor = (float) (1 / Math.sqrt((double) VectorMath.sum(squares, scratch) / n + eps));
    i = 0;
    for (; i + LANES <= n; i += LANES) {
      store(load(x + 4L * i).mul(factor).mul(load(weight + 4L * i)), out + 4L * i);
    }
    if (i < n) {
      FloatVector v = loadPart(x + 4L * i, n - i).mul(factor);
      storePart(v.mul(loadPart(weight + 4L * i, n - i)), out + 4L * i, n - i);
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
      sums = sums.add(load(x + 4L * i));
    }
    if (i < n) {
      sums = sums.add(loadPart(x + 4L * i, n - i));
    }
    float mean = VectorMath.sum(sums, scratch) / n;
    FloatVector squares = FloatVector.zero(F);
    i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector v = load(x + 4L * i).sub(mean);
      squares = v.fma(v, squares);
    }
    if (i < n) {
      FloatVector v = loadPart(x + 4L * i, n - i).sub(mean);
      v = v.blend(0f, F.indexInRange(0, n - i).not());
      squares = v.fma(v, squares);
    }
    float factor = (float) (1 / Math.sqrt((double) VectorMath.sum(squares, scratch) / n + eps));
    i = 0;
    for (; i + LANES <= n; i += LANES) {
      store(load(x + 4L * i).sub(mean).mul(factor).mul(load(weight + 4L * i)), out + 4L * i);
    }
    if (i < n) {
      FloatVector v = loadPart(x + 4L * i, n - i).sub(mean).mul(factor);
      storePart(v.mul(loadPart(weight + 4L * i, n - i)), out + 4L * i, n - i);
    }
  }

  /** Bounds to {@code -bound .. bound}, in place; NaN stays. */
  static void clamp(long x, float bound, long n) {
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
      store(load(x + 4 * i).min(bound).max(-bound), x + 4 * i);
    }
    if (i < n) {
      int rest = (int) (n - i);
      storePart(loadPart(x + 4 * i, rest).min(bound).max(-bound), x + 4 * i, rest);
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
        sum = FloatVector.broadcast(F, weights[i]).fma(load(at + places[i] * stride), sum);
      }
      store(load(y + 4L * k).add(sum), y + 4L * k);
    }
    if (k < n) {
      long at = x + 4L * k;
      FloatVector sum = FloatVector.zero(F);
      for (int i = from; i < to; i++) {
        FloatVector v = loadPart(at + places[i] * stride, n - k);
        sum = FloatVector.broadcast(F, weights[i]).fma(v, sum);
      }
      storePart(loadPart(y + 4L * k, n - k).add(sum), y + 4L * k, n - k);
    }
  }

  /** {@code out = activation(gate, up)}. */
  static void gated(Activation activation, long gate, long up, long out, long n) {
    long i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector g = load(gate + 4 * i);
      FloatVector u = load(up + 4 * i);
      store(activation == Activation.SWIGLU ? swiglu(g, u) : swigluClamped(g, u), out + 4 * i);
    }
    if (i < n) {
      int rest = (int) (n - i);
      FloatVector g = loadPart(gate + 4 * i, rest);
      FloatVector u = loadPart(up + 4 * i, rest);
      storePart(
          activation == Activation.SWIGLU ? swiglu(g, u) : swigluClamped(g, u), out + 4 * i, rest);
    }
  }

  private static FloatVector swiglu(FloatVector gate, FloatVector up) {
    return gate.mul(VectorMath.sigmoid(gate)).mul(up);
  }

  private static FloatVector swigluClamped(FloatVector gate, FloatVector up) {
    FloatVector g = gate.min(7f);
    FloatVector u = up.min(7f).max(-7f);
    return g.mul(VectorMath.sigmoid(g.mul(1.702f))).mul(u.add(1f));
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
      FloatVector a = loadPart(head + at, n);
      FloatVector b = loadPart(head + bytes + at, n);
      FloatVector cos = loadPart(angles + at, n);
      FloatVector sin = loadPart(angles + bytes + at, n);
      storePart(a.mul(cos).sub(b.mul(sin)), head + at, n);
      storePart(b.mul(cos).add(a.mul(sin)), head + bytes + at, n);
    }
  }
}
