package io.infinilora.backend;

import io.infinilora.core.LoraSite;

/** One layer of an adapter in device memory, until it is {@linkplain LoraMemory#free freed}. */
public interface LoraLayer {

  /** Pages that it holds. */
  int pages();

  /** Weights of a dense site, or null if the adapter leaves it alone. */
  LoraWeights weights(LoraSite site);

  /** Weights of a site with experts, or null if the adapter leaves it alone. */
  ExpertLoraWeights expertWeights(LoraSite site);
}
