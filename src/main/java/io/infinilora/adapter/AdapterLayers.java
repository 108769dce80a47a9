package io.infinilora.adapter;

import io.infinilora.backend.Backend;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.weights.PeftAdapter;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.function.Function;

/** Takes an opened adapter apart by layer, as far as one shard holds it. */
final class AdapterLayers {
  private final PeftAdapter adapter;
  private final ModelSpec spec;
  private final LoraShard shard;

  AdapterLayers(PeftAdapter adapter, ModelSpec spec, LoraShard shard) {
    this.adapter = adapter;
    this.spec = spec;
    this.shard = shard;
  }

  /** What the adapter changes in one layer; valid as long as the adapter is open. */
  LayerFactors layer(int layer) {
    Map<LoraSite, List<LoraFactors>> dense = new EnumMap<>(LoraSite.class);
    Map<LoraSite, List<List<LoraFactors>>> routed = new EnumMap<>(LoraSite.class);
    for (LoraSite site : LoraSite.all()) {
      if (!shard.holds(spec, layer, site)) {
        continue;
      }
      if (spec.routed(site)) {
        List<List<LoraFactors>> experts = experts(layer, site);
        if (experts.stream().anyMatch(Objects::nonNull)) {
          routed.put(site, experts);
        }
      } else {
        List<LoraFactors> pairs = pairs(site, t -> adapter.factors(layer, t).orElse(null));
        if (pairs != null) {
          dense.put(site, pairs);
        }
      }
    }
    return new LayerFactors(dense, routed);
  }

  private List<List<LoraFactors>> experts(int layer, LoraSite site) {
    List<List<LoraFactors>> experts = new ArrayList<>();
    for (int e = 0; e < spec.mlp().moe().experts(); e++) {
      int expert = e;
      experts.add(
          shard.holdsExpert(spec, e)
              ? pairs(site, t -> adapter.factors(layer, t, expert).orElse(null))
              : null);
    }
    return experts;
  }

  /** A pair per target of the site, null for absent ones; null if all are absent. */
  private static List<LoraFactors> pairs(LoraSite site, Function<LoraTarget, LoraFactors> find) {
    LoraFactors[] pairs = new LoraFactors[site.targets().size()];
    boolean any = false;
    for (int t = 0; t < pairs.length; t++) {
      pairs[t] = find.apply(site.targets().get(t));
      any |= pairs[t] != null;
    }
    return any ? Arrays.asList(pairs) : null;
  }

  /** Device pages of each layer. */
  int[] pages(Backend backend) {
    int[] pages = new int[spec.layers()];
    for (int layer = 0; layer < pages.length; layer++) {
      pages[layer] = backend.loraPages(layer(layer));
    }
    return pages;
  }
}
