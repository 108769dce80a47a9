package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.LoraWeights;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import java.util.List;
import java.util.Map;

/** The part of a backend that makes adapter weights. Thread-safe; its methods may block. */
final class CudaAdapters {
  private final CudaBackend owner;
  private final CudaDevice device;

  CudaAdapters(CudaBackend owner, CudaDevice device) {
    this.owner = owner;
    this.device = device;
  }

  /** See {@link io.infinilora.backend.Backend#loraWeights}. */
  LoraWeights loraWeights(List<LoraFactors> targets) {
    LoraSite site = LoraSite.ATTENTION_IN; // Any: it only names the entry.
    LoraLayout layout = new LoraLayout(new LayerFactors(Map.of(site, targets), Map.of()));
    if (layout.dense().isEmpty()) {
      throw new IllegalArgumentException("an adapter without any target");
    }
    OwnLoraPages pages = new OwnLoraPages(device, layout);
    return CudaLoraWeights.of(owner, pages, layout.dense().get(site), pages.tables());
  }

  /** See {@link io.infinilora.backend.Backend#expertLoraWeights}. */
  ExpertLoraWeights expertLoraWeights(List<List<LoraFactors>> experts) {
    LoraSite site = LoraSite.MLP_IN; // Any, likewise.
    LoraLayout layout = new LoraLayout(new LayerFactors(Map.of(), Map.of(site, experts)));
    if (layout.routed().isEmpty()) {
      throw new IllegalArgumentException("an adapter without any expert");
    }
    OwnLoraPages pages = new OwnLoraPages(device, layout);
    return CudaExpertLoraWeights.of(owner, pages, layout.routed().get(site), pages.tables());
  }

  /** Frees weights that are not in a {@link LoraMemory}. */
  void free(LoraWeights weights) {
    free(((CudaLoraWeights) weights).residence());
  }

  /** Frees weights that are not in a {@link LoraMemory}. */
  void free(ExpertLoraWeights weights) {
    free(((CudaExpertLoraWeights) weights).residence());
  }

  private static void free(LoraResidence residence) {
    if (!(residence instanceof OwnLoraPages pages)) {
      throw new IllegalArgumentException("the weights are in an adapter memory");
    }
    pages.free();
  }

  /** See {@link io.infinilora.backend.Backend#loraMemory}. */
  LoraMemory memory(long bytes) {
    return new CudaLoraMemory(owner, device, bytes);
  }

  /** See {@link io.infinilora.backend.Backend#loraPages}. */
  int pages(LayerFactors factors) {
    return new LoraLayout(factors).pages();
  }

  /** See {@link io.infinilora.backend.Backend#loraImage}. */
  LoraImage image(LayerFactors factors) {
    return new CudaLoraImage(owner, device, factors);
  }
}
