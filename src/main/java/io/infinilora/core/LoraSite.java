package io.infinilora.core;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

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

  /** In a class of its own, since the two enums refer to each other. */
  private static final class Targets {
    static final Map<LoraSite, List<LoraTarget>> BY_SITE =
        Arrays.stream(LoraTarget.values()).collect(Collectors.groupingBy(LoraTarget::site));
  }

  /** All sites, in the order in which a layer reaches them. */
  public static List<LoraSite> all() {
    return ALL;
  }

  /** The targets that share this site's input, in a fixed order. */
  public List<LoraTarget> targets() {
    return Targets.BY_SITE.get(this);
  }
}
