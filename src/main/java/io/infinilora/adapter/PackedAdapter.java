package io.infinilora.adapter;

import io.infinilora.backend.Backend;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.weights.PeftAdapter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.function.Function;

/** An adapter's weights on the device, per layer and site. Immutable until freed. */
final class PackedAdapter {
  private final LoraWeights[][] dense;
  private final ExpertLoraWeights[][] routed;
  private final Set<LoraTarget> targets = EnumSet.noneOf(LoraTarget.class);
  private final long bytes;

  /** Packs all layers. */
  PackedAdapter(PeftAdapter adapter, ModelSpec spec, Backend backend) {
    int sites = LoraSite.all().size();
    dense = new LoraWeights[spec.layers()][sites];
    routed = new ExpertLoraWeights[spec.layers()][sites];
    long total = 0;
    for (int layer = 0; layer < spec.layers(); layer++) {
      for (LoraSite site : LoraSite.all()) {
        if (spec.routed(site)) {
          ExpertLoraWeights packed = packExperts(adapter, layer, site, spec, backend);
          routed[layer][site.ordinal()] = packed;
          total += packed == null ? 0 : packed.bytes();
        } else {
          LoraWeights packed = pack(adapter, layer, site, backend);
          dense[layer][site.ordinal()] = packed;
          total += packed == null ? 0 : packed.bytes();
        }
      }
    }
    bytes = total;
  }

  private LoraWeights pack(PeftAdapter adapter, int layer, LoraSite site, Backend backend) {
    List<LoraFactors> pairs = pairs(site, t -> adapter.factors(layer, t).orElse(null));
    return pairs == null ? null : backend.loraWeights(pairs);
  }

  private ExpertLoraWeights packExperts(
      PeftAdapter adapter, int layer, LoraSite site, ModelSpec spec, Backend backend) {
    List<List<LoraFactors>> experts = new ArrayList<>();
    for (int e = 0; e < spec.mlp().moe().experts(); e++) {
      int expert = e;
      experts.add(pairs(site, t -> adapter.factors(layer, t, expert).orElse(null)));
    }
    return experts.stream().allMatch(Objects::isNull) ? null : backend.expertLoraWeights(experts);
  }

  /** A pair per target of the site, null for absent ones; null if all are absent. */
  private List<LoraFactors> pairs(LoraSite site, Function<LoraTarget, LoraFactors> find) {
    LoraFactors[] pairs = new LoraFactors[site.targets().size()];
    boolean any = false;
    for (int t = 0; t < pairs.length; t++) {
      pairs[t] = find.apply(site.targets().get(t));
      if (pairs[t] != null) {
        any = true;
        targets.add(site.targets().get(t));
      }
    }
    return any ? Arrays.asList(pairs) : null;
  }

  /** Weights of a site, or null if the adapter leaves it alone. */
  LoraWeights weights(int layer, LoraSite site) {
    return dense[layer][site.ordinal()];
  }

  /** Weights of a routed site, likewise. */
  ExpertLoraWeights expertWeights(int layer, LoraSite site) {
    return routed[layer][site.ordinal()];
  }

  Set<LoraTarget> targets() {
    return targets;
  }

  long bytes() {
    return bytes;
  }

  void free(Backend backend) {
    for (LoraWeights[] layer : dense) {
      Arrays.stream(layer).filter(Objects::nonNull).forEach(backend::free);
    }
    for (ExpertLoraWeights[] layer : routed) {
      Arrays.stream(layer).filter(Objects::nonNull).forEach(backend::free);
    }
  }
}
