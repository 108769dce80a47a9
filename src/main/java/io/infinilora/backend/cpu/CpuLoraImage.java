package io.infinilora.backend.cpu;

import io.infinilora.backend.LoraImage;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraSite;
import java.util.Collections;
import java.util.EnumMap;
import java.util.Map;

/** A packed layer, and where in its pages the pairs of each site are. */
final class CpuLoraImage implements LoraImage {
  private final CpuBackend owner;
  private final Map<LoraSite, DensePairs> dense = new EnumMap<>(LoraSite.class);
  private final Map<LoraSite, ExpertPairs> routed = new EnumMap<>(LoraSite.class);
  private final PackedPages packed;

  CpuLoraImage(CpuBackend owner, LayerFactors factors) {
    this.owner = owner;
    packed = new PackedPages(layout(factors, dense, routed));
  }

  /** The layout of a layer, whose pairs go to the maps. */
  static LoraLayout layout(
      LayerFactors factors, Map<LoraSite, DensePairs> dense, Map<LoraSite, ExpertPairs> routed) {
    LoraLayout layout = new LoraLayout();
    factors
        .dense()
        .forEach(
            (site, pairs) -> {
              if (LoraLayout.present(pairs)) {
                dense.put(site, layout.dense(pairs));
              }
            });
    factors
        .routed()
        .forEach(
            (site, experts) -> {
              if (experts.stream().anyMatch(LoraLayout::present)) {
                routed.put(site, layout.experts(experts));
              }
            });
    return layout;
  }

  CpuBackend owner() {
    return owner;
  }

  /** Dense sites, at places. */
  Map<LoraSite, DensePairs> dense() {
    return Collections.unmodifiableMap(dense);
  }

  /** Routed sites, at places. */
  Map<LoraSite, ExpertPairs> routed() {
    return Collections.unmodifiableMap(routed);
  }

  PackedPages packed() {
    return packed;
  }

  @Override
  public int pages() {
    return packed.pages();
  }

  @Override
  public long bytes() {
    return packed.bytes();
  }

  @Override
  public synchronized void close() {
    if (packed.alive()) {
      packed.free();
    }
  }
}
