package io.infinilora.backend.cuda;

/**
 * One target of a site in a layout.
 *
 * @param rank 0 if the adapter leaves the target alone; then the rest is void
 * @param vBlock rank block of the site's stacked A at which this pair's A begins
 * @param b its B
 */
record LoraPair(int rank, int vBlock, LoraPieces b, float scale) {
  /** A target that the adapter leaves alone. */
  static final LoraPair ABSENT = new LoraPair(0, 0, null, 0);

  /** Output features; 0 if absent. */
  int out() {
    return rank == 0 ? 0 : b.source().rows();
  }
}
