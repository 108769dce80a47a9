package io.infinilora.backend.cuda;

import java.util.List;

/**
 * One adapter's pairs at one site (of one expert), placed in a layout.
 *
 * @param stack every A, once, one below the other
 * @param pairs one per target
 * @param in input features; 0 if there is no pair
 * @param bytes of matrices that no site before it has
 * @param tableA place of the table of A's pieces
 * @param tablesB likewise per target; void where it is absent
 */
record LoraSitePlan(
    List<LoraPieces> stack, List<LoraPair> pairs, int in, long bytes, long tableA, long[] tablesB) {

  /** Rank blocks of all of A. */
  int rankBlocks() {
    return stack.stream().mapToInt(a -> LoraPieces.rankBlocks(a.source().rows())).sum();
  }
}
