package io.infinilora.backend.cpu;

/**
 * One packed low-rank pair. A has its rows padded to whole steps of the dot product and to a
 * multiple of {@link LoraKernels#RANKS} rows, all zero; B is a {@link PackedMatrix}.
 *
 * @param rank 0 if the adapter leaves the target alone; then the rest is void
 * @param brain whether A is bfloat16
 * @param a address of A; pairs that share A have the same
 */
record LoraPair(int rank, boolean brain, long a, PackedMatrix b, float scale) {
  /** A target that the adapter leaves alone. */
  static final LoraPair ABSENT = new LoraPair(0, false, 0, null, 0);

  /** Output features. */
  int out() {
    return b.out();
  }
}
