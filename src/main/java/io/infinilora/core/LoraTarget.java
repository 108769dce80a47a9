package io.infinilora.core;

/** A linear layer that an adapter may change. */
public enum LoraTarget {
  Q(LoraSite.ATTENTION_IN),
  K(LoraSite.ATTENTION_IN),
  V(LoraSite.ATTENTION_IN),
  O(LoraSite.ATTENTION_OUT),
  GATE(LoraSite.MLP_IN),
  UP(LoraSite.MLP_IN),
  DOWN(LoraSite.MLP_OUT);

  private final LoraSite site;

  LoraTarget(LoraSite site) {
    this.site = site;
  }

  /** The site whose input this target reads. */
  public LoraSite site() {
    return site;
  }
}
