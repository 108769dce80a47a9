package io.infinilora.backend.cpu;

import io.infinilora.backend.LoraWeights;

/** One adapter's pairs at one site, in memory of a residence. */
record CpuLoraWeights(CpuBackend owner, LoraResidence residence, DensePairs site)
    implements LoraWeights {

  @Override
  public int rank(int target) {
    return site.pairs()[target].rank();
  }

  @Override
  public int in() {
    return site.in();
  }

  @Override
  public long bytes() {
    return site.bytes();
  }

  /** A pair per target; shared, not to be written. */
  LoraPair[] pairs() {
    return site.pairs();
  }

  boolean alive() {
    return residence.alive();
  }
}
