package io.infinilora.backend.cpu;

/**
 * One packed low-rank pair.
 *
 * @param rank 0 if the adapter leaves the target alone; then the rest is void
 * @param a pairs that share A have the same object
 */
record LoraPair(int rank, LoraRows a, LoraPanels b, float scale) {
  /** A target that the adapter leaves alone. */
  static final LoraPair ABSENT = new LoraPair(0, null, null, 0);

  /** Output features. */
  int out() {
    return b.out();
  }
}
