package io.infinilora.backend.cuda;

import io.infinilora.backend.LoraWeights;

/**
 * One adapter's pairs at one site, in memory of a residence.
 *
 * @param ranks per target; not to be written
 * @param outs likewise, 0 where absent
 * @param rankBlocks of all of A
 * @param nameA the table of A, as kernels name it
 * @param namesB the tables of B, likewise; not to be written
 */
record CudaLoraWeights(
    CudaBackend owner,
    LoraResidence residence,
    int[] ranks,
    int[] outs,
    int in,
    int rankBlocks,
    long bytes,
    long nameA,
    long[] namesB)
    implements LoraWeights {

  static CudaLoraWeights of(
      CudaBackend owner, LoraResidence residence, LoraSitePlan site, LoraTables tables) {
    int targets = site.pairs().size();
    long[] namesB = new long[targets];
    for (int t = 0; t < targets; t++) {
      namesB[t] = tables.nameB(site, t);
    }
    return new CudaLoraWeights(
        owner,
        residence,
        site.pairs().stream().mapToInt(LoraPair::rank).toArray(),
        site.pairs().stream().mapToInt(LoraPair::out).toArray(),
        site.in(),
        site.rankBlocks(),
        site.bytes(),
        tables.nameA(site),
        namesB);
  }

  @Override
  public int rank(int target) {
    return ranks[target];
  }

  int targets() {
    return ranks.length;
  }
}
