package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.I;
import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.LE;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;
import static jdk.incubator.vector.VectorOperators.LSHL;

import jdk.incubator.vector.FloatVector;
import jdk.incubator.vector.IntVector;

/**
 * Low-rank products of the rows of one adapter. Ranks are too small to be lanes, so the shrink's
 * lanes run along k: each (row, rank) is one chain of vector FMAs and one sum over lanes in fixed
 * order, whatever the number of rows. The expand is a {@link MatrixKernels} product with the rank
 * as depth.
 */
final class LoraKernels {
  /** Rows of A taken together. */
  static final int RANKS = 4;

  /** Most rows of one call. */
  static final int MAX_ROWS = 32;

  private LoraKernels() {}

  /** Bytes of a padded row of A: whole pairs of vectors. */
  static long rowBytes(int in, boolean brain) {
    return (long) Memory.roundUp(in, 2 * LANES) * (brain ? 2 : 4);
  }

  /**
   * {@code out_t[outRows[i]] += scale_t B_t A_t x[rows[i]]} for i in {@code from .. to-1}.
   *
   * @param pairs one per target
   * @param outs per target; those without a rank here are not looked at
   */
  static void add(
      LoraPair[] pairs,
      int in,
      int[] rows,
      int[] outRows,
      int from,
      int to,
      CpuTensor x,
      CpuTensor[] outs,
      Scratch scratch,
      Scratch matrixScratch) {
    int n = to - from;
    long xBytes = rowBytes(in, false);
    int mostRank = 0;
    int mostOut = 0;
    for (LoraPair pair : pairs) {
      if (pair.rank() > 0) {
        mostRank = Math.max(mostRank, Memory.roundUp(pair.rank(), RANKS));
        mostOut = Math.max(mostOut, pair.out());
      }
    }
    long low = scratch.reserve(n * (xBytes + 4L * (mostRank + mostOut)) + RANKS * VECTOR_BYTES);
    long delta = low + 4L * n * mostRank;
    long inputs = delta + 4L * n * mostOut;
    long lanes = inputs + n * xBytes;
    long lowStride = 4L * mostRank;
    gather(x, rows, from, n, in, inputs);
    long shrunk = 0;
    for (int t = 0; t < pairs.length; t++) {
      LoraPair pair = pairs[t];
      if (pair.rank() == 0) {
        continue;
      }
      if (pair.a() != shrunk) {
        // Targets that share A share its product.
        shrink(pair, in, n, inputs, xBytes, low, lowStride, lanes);
        shrunk = pair.a();
      }
      PackedMatrix b = pair.b();
      long deltaStride = 4L * b.out();
      MatrixKernels.multiply(
          b, 0, b.panels(), n, low, lowStride, delta, deltaStride, matrixScratch);
      for (int i = 0; i < n; i++) {
        ElementKernels.addScaled(
            delta + i * deltaStride, pair.scale(), outs[t].row(outRows[from + i]), b.out());
      }
    }
  }

  /**
   * {@code out[i - from] = B A x[rows[i]]} for i in {@code from .. to-1}, without the scale.
   *
   * @param out first row, a row's bytes apart
   */
  static void multiply(
      LoraPair pair,
      int in,
      int[] rows,
      int from,
      int to,
      CpuTensor x,
      long out,
      Scratch scratch,
      Scratch matrixScratch) {
    int n = to - from;
    long xBytes = rowBytes(in, false);
    long lowStride = 4L * Memory.roundUp(pair.rank(), RANKS);
    long low = scratch.reserve(n * (xBytes + lowStride) + RANKS * VECTOR_BYTES);
    long inputs = low + n * lowStride;
    gather(x, rows, from, n, in, inputs);
    shrink(pair, in, n, inputs, xBytes, low, lowStride, inputs + n * xBytes);
    PackedMatrix b = pair.b();
    MatrixKernels.multiply(b, 0, b.panels(), n, low, lowStride, out, 4L * b.out(), matrixScratch);
  }

  private static void gather(CpuTensor x, int[] rows, int from, int n, int in, long inputs) {
    long xBytes = rowBytes(in, false);
    for (int i = 0; i < n; i++) {
      long row = inputs + i * xBytes;
      Memory.copy(x.row(rows[from + i]), row, 4L * in);
      Memory.zero(row + 4L * in, xBytes - 4L * in);
    }
  }

  private static void shrink(
      LoraPair pair, int in, int rows, long x, long xStride, long low, long lowStride, long lanes) {
    long aStride = rowBytes(in, pair.brain());
    int pairs = Math.ceilDiv(in, 2 * LANES);
    for (int r = 0; r < pair.rank(); r += RANKS) {
      long a = pair.a() + r * aStride;
      for (int i = 0; i < rows; i++) {
        if (pair.brain()) {
          dotBrain(a, aStride, x + i * xStride, pairs, lanes);
        } else {
          dot(a, aStride, x + i * xStride, pairs, lanes);
        }
        sums(lanes, low + i * lowStride + 4L * r);
      }
    }
  }

  private static void sums(long lanes, long out) {
    float s0 = 0;
    float s1 = 0;
    float s2 = 0;
    float s3 = 0;
    for (int l = 0; l < LANES; l++) {
      s0 += Memory.get(lanes + 4L * l);
      s1 += Memory.get(lanes + 4L * l + VECTOR_BYTES);
      s2 += Memory.get(lanes + 4L * l + 2 * VECTOR_BYTES);
      s3 += Memory.get(lanes + 4L * l + 3 * VECTOR_BYTES);
    }
    Memory.set(out, s0);
    Memory.set(out + 4, s1);
    Memory.set(out + 8, s2);
    Memory.set(out + 12, s3);
  }

  private static void dot(long a, long aStride, long x, int pairs, long lanes) {
    long a1 = a + aStride;
    long a2 = a1 + aStride;
    long a3 = a2 + aStride;
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = s0;
    FloatVector s2 = s0;
    FloatVector s3 = s0;
    for (int i = 0; i < 2 * pairs; i++) {
      long at = (long) i * VECTOR_BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, ALL, x + at, LE);
      s0 = v.fma(FloatVector.fromMemorySegment(F, ALL, a + at, LE), s0);
      s1 = v.fma(FloatVector.fromMemorySegment(F, ALL, a1 + at, LE), s1);
      s2 = v.fma(FloatVector.fromMemorySegment(F, ALL, a2 + at, LE), s2);
      s3 = v.fma(FloatVector.fromMemorySegment(F, ALL, a3 + at, LE), s3);
    }
    s0.intoMemorySegment(ALL, lanes, LE);
    s1.intoMemorySegment(ALL, lanes + VECTOR_BYTES, LE);
    s2.intoMemorySegment(ALL, lanes + 2 * VECTOR_BYTES, LE);
    s3.intoMemorySegment(ALL, lanes + 3 * VECTOR_BYTES, LE);
  }

  private static void dotBrain(long a, long aStride, long x, int pairs, long lanes) {
    long a1 = a + aStride;
    long a2 = a1 + aStride;
    long a3 = a2 + aStride;
    FloatVector s0 = FloatVector.zero(F);
    FloatVector s1 = s0;
    FloatVector s2 = s0;
    FloatVector s3 = s0;
    for (int i = 0; i < pairs; i++) {
      long at = (long) i * VECTOR_BYTES;
      FloatVector v = FloatVector.fromMemorySegment(F, ALL, x + 2 * at, LE);
      FloatVector w = FloatVector.fromMemorySegment(F, ALL, x + 2 * at + VECTOR_BYTES, LE);
      IntVector words = IntVector.fromMemorySegment(I, ALL, a + at, LE);
      s0 = v.fma(words.lanewise(LSHL, 16).reinterpretAsFloats(), s0);
      s0 = w.fma(words.and(UnpackKernels.HIGH_HALF).reinterpretAsFloats(), s0);
      words = IntVector.fromMemorySegment(I, ALL, a1 + at, LE);
      s1 = v.fma(words.lanewise(LSHL, 16).reinterpretAsFloats(), s1);
      s1 = w.fma(words.and(UnpackKernels.HIGH_HALF).reinterpretAsFloats(), s1);
      words = IntVector.fromMemorySegment(I, ALL, a2 + at, LE);
      s2 = v.fma(words.lanewise(LSHL, 16).reinterpretAsFloats(), s2);
      s2 = w.fma(words.and(UnpackKernels.HIGH_HALF).reinterpretAsFloats(), s2);
      words = IntVector.fromMemorySegment(I, ALL, a3 + at, LE);
      s3 = v.fma(words.lanewise(LSHL, 16).reinterpretAsFloats(), s3);
      s3 = w.fma(words.and(UnpackKernels.HIGH_HALF).reinterpretAsFloats(), s3);
    }
    s0.intoMemorySegment(ALL, lanes, LE);
    s1.intoMemorySegment(ALL, lanes + VECTOR_BYTES, LE);
    s2.intoMemorySegment(ALL, lanes + 2 * VECTOR_BYTES, LE);
    s3.intoMemorySegment(ALL, lanes + 3 * VECTOR_BYTES, LE);
  }
}
