package io.infinilora.backend.cpu;

import io.infinilora.backend.ExpertLoraWeights;

/** One adapter's pairs of all experts at one routed site, in memory of a residence. */
record CpuExpertLoraWeights(CpuBackend owner, LoraResidence residence, ExpertPairs site)
    implements ExpertLoraWeights {

  @Override
  public int experts() {
    return site.experts().length;
  }

  @Override
  public int rank(int expert, int target) {
    LoraPair[] pairs = site.experts()[expert];
    return pairs == null ? 0 : pairs[target].rank();
  }

  @Override
  public int in() {
    return site.in();
  }

  @Override
  public long bytes() {
    return site.bytes();
  }

  int targets() {
    return site.outs().length;
  }

  /** Output features of a target; 0 if no expert has it. */
  int out(int target) {
    return site.outs()[target];
  }

  /** A pair per target, or null for an absent expert; shared, not to be written. */
  LoraPair[] pairs(int expert) {
    return site.experts()[expert];
  }

  boolean alive() {
    return residence.alive();
  }
}
