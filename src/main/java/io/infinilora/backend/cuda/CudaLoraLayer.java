package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraWeights;
import io.infinilora.core.LoraSite;
import java.util.EnumMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicBoolean;

/** A layer in pages of a {@link CudaLoraMemory}. */
final class CudaLoraLayer implements LoraLayer, LoraResidence {
  private final CudaLoraMemory memory;
  private final int[] pages;
  private final Map<LoraSite, CudaLoraWeights> dense = new EnumMap<>(LoraSite.class);
  private final Map<LoraSite, CudaExpertLoraWeights> routed = new EnumMap<>(LoraSite.class);
  private final AtomicBoolean freed = new AtomicBoolean();

  /**
   * @param pages their numbers
   */
  CudaLoraLayer(CudaLoraMemory memory, int[] pages, LoraLayout layout, LoraTables tables) {
    this.memory = memory;
    this.pages = pages;
    layout
        .dense()
        .forEach(
            (site, plan) ->
                dense.put(site, CudaLoraWeights.of(memory.owner(), this, plan, tables)));
    layout
        .routed()
        .forEach(
            (site, plan) ->
                routed.put(site, CudaExpertLoraWeights.of(memory.owner(), this, plan, tables)));
  }

  @Override
  public int pages() {
    return pages.length;
  }

  @Override
  public LoraWeights weights(LoraSite site) {
    return dense.get(site);
  }

  @Override
  public ExpertLoraWeights expertWeights(LoraSite site) {
    return routed.get(site);
  }

  CudaLoraMemory memory() {
    return memory;
  }

  /** Numbers of the pages; not to be written. */
  int[] numbers() {
    return pages;
  }

  @Override
  public boolean alive() {
    return !freed.get() && memory.open();
  }

  /** Ends the use of the weights; false if that was done before. */
  boolean end() {
    return freed.compareAndSet(false, true);
  }
}
