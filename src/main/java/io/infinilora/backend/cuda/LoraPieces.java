package io.infinilora.backend.cuda;

import io.infinilora.core.WeightMatrix;

/**
 * A matrix of a low-rank pair, cut into pieces that lie anywhere (see {@code lora.cuh}): A {@code
 * [rank, in]} into 16 ranks by 512 inputs, rank block by rank block; B {@code [out, rank]} into 64
 * outputs by all ranks.
 *
 * @param source what is packed
 * @param places of the pieces, counted from the first page as if all pages were adjacent; not to be
 *     written
 */
record LoraPieces(WeightMatrix source, long[] places) {
  /** Ranks and B's reduced dimension are padded to multiples of this. */
  static final int RANK_BLOCK = 16;

  /** A's inputs are padded to multiples of this. */
  static final int IN_BLOCK = 32;

  /** Inputs of a piece of A. */
  static final int CHUNK = 512;

  /** Outputs of a piece of B. */
  static final int FEATURE_BLOCK = 64;

  /** Blocks of 16 ranks. */
  static int rankBlocks(int rank) {
    return Math.ceilDiv(rank, RANK_BLOCK);
  }

  /** Pieces of A side by side. */
  static int chunks(int in) {
    return Math.ceilDiv(in, CHUNK);
  }

  /** Bytes of a piece of A, the last of which may be shorter. */
  static int bytesOfA(int in, int chunk) {
    int columns = Math.min(CHUNK, in - chunk * CHUNK);
    return Math.ceilDiv(columns, IN_BLOCK) * IN_BLOCK * RANK_BLOCK * Short.BYTES;
  }

  /** Bytes of a piece of B. */
  static int bytesOfB(int rank) {
    return FEATURE_BLOCK * rankBlocks(rank) * RANK_BLOCK * Short.BYTES;
  }
}
