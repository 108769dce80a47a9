package io.infinilora.core;

import java.util.List;

/**
 * The four places of a layer at which low-rank products are added. The targets of a site share its
 * input.
 */
public enum LoraSite {
  /** q, k and v share the normalised residual stream. */
  ATTENTION_IN,
  /** o reads the attention output. */
  ATTENTION_OUT,
  /** gate and up share the normalised residual stream. */
  MLP_IN,
  /** down reads the gated activation. */
  MLP_OUT;

  private static final List<LoraSite> ALL = List.of(values());
  private List<LoraTarget> targets;

  /** All sites, in the order in which a layer reaches them. */
  public static List<LoraSite> all() {
    return ALL;
  }

  /** The targets that share this site's input, in a fixed order. */
  public List<LoraTarget> targets() {
    if (targets == null) {
      // Idempotent, so a race is harmless; computed lazily since the enums refer to each other.
      LoraSite self = this;
      targets = List.of(LoraTarget.values()).stream().filter(t -> t.site() == self).toList();
    }
    return targets;
  }
}
