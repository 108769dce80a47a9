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

  /** Bytes of the lanes of as many sums. */
  private static final int SUMS_BYTES = RANKS * VECTOR_BYTES;

  /** Most rows of one call. */
  static final int MAX_ROWS = 32;

  private LoraKernels() {}

  /** Steps of a dot product over {@code in} columns, two vectors each. */
  static int steps(int in) {
    return Math.ceilDiv(in, 2 * LANES);
  }

  /** Bytes of a step of a row of A. */
  static long stepBytes(boolean brain) {
    return brain ? VECTOR_BYTES : 2L * VECTOR_BYTES;
  }

  /** Bytes of a padded row of float32. */
  private static long rowBytes(int in) {
    return steps(in) * stepBytes(false);
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
    long xBytes = rowBytes(in);
    int mostRank = 0;
    int mostOut = 0;
    for (LoraPair pair : pairs) {
      if (pair.rank() > 0) {
        mostRank = Math.max(mostRank, Memory.roundUp(pair.rank(), RANKS));
        mostOut = Math.max(mostOut, pair.out());
      }
    }
    long low =
        scratch.reserve(n * (xBytes + 4L * (mostRank + mostOut)) + (n + 1) * (long) SUMS_BYTES);
    long delta = low + 4L * n * mostRank;
    long inputs = delta + 4L * n * mostOut;
    long sums = inputs + n * xBytes;
    long lowStride = 4L * mostRank;
    gather(x, rows, from, n, in, inputs);
    long shrunk = 0;
    for (int t = 0; t < pairs.length; t++) {
      LoraPair pair = pairs[t];
      if (pair.rank() == 0) {
        continue;
      }
      if (pair.a().address() != shrunk) {
        // Targets that share A share its product.
        shrink(pair.a(), in, n, inputs, xBytes, low, lowStride, sums);
        shrunk = pair.a().address();
      }
      long deltaStride = 4L * pair.out();
      expand(pair.b(), n, low, lowStride, delta, matrixScratch);
      for (int i = 0; i < n; i++) {
        ElementKernels.addScaled(
            delta + i * deltaStride, pair.scale(), outs[t].row(outRows[from + i]), pair.out());
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
    long xBytes = rowBytes(in);
    long lowStride = 4L * Memory.roundUp(pair.rank(), RANKS);
    long low = scratch.reserve(n * (xBytes + lowStride) + (n + 1) * (long) SUMS_BYTES);
    long inputs = low + n * lowStride;
    gather(x, rows, from, n, in, inputs);
    shrink(pair.a(), in, n, inputs, xBytes, low, lowStride, inputs + n * xBytes);
    expand(pair.b(), n, low, lowStride, out, matrixScratch);
  }

  private static void gather(CpuTensor x, int[] rows, int from, int n, int in, long inputs) {
    long xBytes = rowBytes(in);
    for (int i = 0; i < n; i++) {
      long row = inputs + i * xBytes;
      Memory.copy(x.row(rows[from + i]), row, 4L * in);
      Memory.zero(row + 4L * in, xBytes - 4L * in);
    }
  }

  /**
   * {@code low = x A^T}.
   *
   * @param sums memory for the lanes of all rows' sums, and as much as one row's more
   */
  private static void shrink(
      LoraRows a, int in, int rows, long x, long xStride, long low, long lowStride, long sums) {
    long stepBytes = stepBytes(a.brain());
    int steps = steps(in);
    long zeros = sums + rows * (long) SUMS_BYTES;
    Memory.zero(zeros, SUMS_BYTES);
    for (int n = 0; n < a.runs().size(); n++) {
      LoraRows.Run run = a.runs().get(n);
      long stride = run.steps() * stepBytes;
      boolean last = run.step() + run.steps() == steps;
      long from = x + run.step() * stepBytes(false);
      for (int r = 0; r < run.ranks(); r += RANKS) {
        for (int i = 0; i < rows; i++) {
          long to = sums + i * (long) SUMS_BYTES;
          long init = run.step() == 0 ? zeros : to;
          long rank = run.address() + r * stride;
          if (a.brain()) {
            dotBrain(rank, stride, from + i * xStride, run.steps(), init, to);
          } else {
            dot(rank, stride, from + i * xStride, run.steps(), init, to);
          }
          if (last) {
            sums(to, low + i * lowStride + 4L * (run.rank() + r));
          }
        }
      }
    }
  }

  /** {@code out = low B^T}, rows of {@code out} adjacent. */
  private static void expand(
      LoraPanels b, int rows, long low, long lowStride, long out, Scratch scratch) {
    long at = out;
    for (int n = 0; n < b.pieces().size(); n++) {
      PackedMatrix piece = b.pieces().get(n);
      MatrixKernels.multiply(
          piece, 0, piece.panels(), rows, low, lowStride, at, 4L * b.out(), scratch);
      at += 4L * piece.out();
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

  /** Goes on from the lanes at {@code init} and leaves them at {@code lanes}. */
  private static void dot(long a, long aStride, long x, int steps, long init, long lanes) {
    long a1 = a + aStride;
    long a2 = a1 + aStride;
    long a3 = a2 + aStride;
    FloatVector s0 = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector s1 = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector s2 = FloatVector.fromMemorySegment(F, ALL, init + 2 * VECTOR_BYTES, LE);
    FloatVector s3 = FloatVector.fromMemorySegment(F, ALL, init + 3 * VECTOR_BYTES, LE);
    for (int i = 0; i < 2 * steps; i++) {
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

  private static void dotBrain(long a, long aStride, long x, int steps, long init, long lanes) {
    long a1 = a + aStride;
    long a2 = a1 + aStride;
    long a3 = a2 + aStride;
    FloatVector s0 = FloatVector.fromMemorySegment(F, ALL, init, LE);
    FloatVector s1 = FloatVector.fromMemorySegment(F, ALL, init + VECTOR_BYTES, LE);
    FloatVector s2 = FloatVector.fromMemorySegment(F, ALL, init + 2 * VECTOR_BYTES, LE);
    FloatVector s3 = FloatVector.fromMemorySegment(F, ALL, init + 3 * VECTOR_BYTES, LE);
    for (int i = 0; i < steps; i++) {
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
