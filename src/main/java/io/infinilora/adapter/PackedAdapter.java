package io.infinilora.adapter;

import io.infinilora.backend.Backend;
import io.infinilora.backend.LoraWeights;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.weights.PeftAdapter;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/** An adapter's weights on the device, per layer and site. Immutable until freed. */
final class PackedAdapter {
  private final LoraWeights[][] weights;
  private final Set<LoraTarget> targets = EnumSet.noneOf(LoraTarget.class);
  private final long bytes;

  /** Packs all layers. */
  PackedAdapter(PeftAdapter adapter, ModelSpec spec, Backend backend) {
    weights = new LoraWeights[spec.layers()][LoraSite.all().size()];
    long total = 0;
    for (int layer = 0; layer < spec.layers(); layer++) {
      for (LoraSite site : LoraSite.all()) {
        LoraWeights packed = pack(adapter, layer, site, backend);
        weights[layer][site.ordinal()] = packed;
        total += packed == null ? 0 : packed.bytes();
      }
    }
    bytes = total;
  }

  private LoraWeights pack(PeftAdapter adapter, int layer, LoraSite site, Backend backend) {
    List<LoraFactors> factors = new ArrayList<>();
    boolean any = false;
    for (LoraTarget target : site.targets()) {
      LoraFactors pair = adapter.factors(layer, target).orElse(null);
      factors.add(pair);
      if (pair != null) {
        any = true;
        targets.add(target);
      }
    }
    return any ? backend.loraWeights(factors) : null;
  }

  /** Weights of a site, or null if the adapter leaves it alone. */
  LoraWeights weights(int layer, LoraSite site) {
    return weights[layer][site.ordinal()];
  }

  Set<LoraTarget> targets() {
    return targets;
  }

  long bytes() {
    return bytes;
  }

  void free(Backend backend) {
    for (LoraWeights[] layer : weights) {
      for (LoraWeights site : layer) {
        if (site != null) {
          backend.free(site);
        }
      }
    }
  }
}
