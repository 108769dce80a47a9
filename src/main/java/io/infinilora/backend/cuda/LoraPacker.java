package io.infinilora.backend.cuda;

import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Packs the matrices of a {@link LoraLayout} in the order in which the kernels' warps read them;
 * {@code lora.cuh} has the formulas.
 */
final class LoraPacker {
  /** Values of a fragment: 32 lanes with 8 each. */
  private static final int FRAGMENT = 256;

  private LoraPacker() {}

  /**
   * Packs everything but the tables.
   *
   * @param into zeroed memory for the layout's extent
   */
  static void pack(LoraLayout layout, MemorySegment into) {
    layout.as().forEach(a -> packA(a, into));
    layout.bs().forEach(b -> packB(b, into));
  }

  private static void packA(LoraPieces a, MemorySegment into) {
    WeightMatrix source = a.source();
    Bf16Rows rows = new Bf16Rows(source);
    short[] row = new short[source.cols()];
    int chunks = LoraPieces.chunks(source.cols());
    for (int r = 0; r < source.rows(); r++) {
      rows.read(r, row);
      for (int k = 0; k < row.length; k++) {
        long piece = a.places()[r / LoraPieces.RANK_BLOCK * chunks + k / LoraPieces.CHUNK];
        set(into, piece, inA(r % LoraPieces.RANK_BLOCK, k % LoraPieces.CHUNK), row[k]);
      }
    }
  }

  private static void packB(LoraPieces b, MemorySegment into) {
    WeightMatrix source = b.source();
    Bf16Rows rows = new Bf16Rows(source);
    short[] row = new short[source.cols()];
    for (int n = 0; n < source.rows(); n++) {
      rows.read(n, row);
      long piece = b.places()[n / LoraPieces.FEATURE_BLOCK];
      for (int k = 0; k < row.length; k++) {
        set(into, piece, inB(n % LoraPieces.FEATURE_BLOCK, k), row[k]);
      }
    }
  }

  private static void set(MemorySegment into, long piece, int index, short value) {
    into.set(ValueLayout.JAVA_SHORT_UNALIGNED, piece + 2L * index, value);
  }

  /** Index of a value in its piece of A. */
  static int inA(int rank, int k) {
    int within = k % 32;
    int fragment = k / 32 * 2 + within / 4 % 2;
    return index(fragment, rank % 8, rank / 8, within / 8, within % 4);
  }

  /** Index of a value in its piece of B. */
  static int inB(int feature, int k) {
    int within = k % LoraPieces.RANK_BLOCK;
    int fragment = k / LoraPieces.RANK_BLOCK * 4 + feature % 8 / 2;
    return index(fragment, feature / 8, feature % 2, within / 4, within % 4);
  }

  /**
   * Index of a value in a row of fragments.
   *
   * @param g row of the fragment, modulo 8
   * @param half row of the fragment, divided by 8
   * @param c lane of four
   * @param k among the four reduced values of a lane
   */
  private static int index(int fragment, int g, int half, int c, int k) {
    return fragment * FRAGMENT + (4 * g + c) * 8 + k / 2 * 4 + half * 2 + k % 2;
  }
}
