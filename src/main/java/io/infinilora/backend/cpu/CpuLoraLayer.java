package io.infinilora.backend.cpu;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraWeights;
import io.infinilora.core.LoraSite;
import java.util.EnumMap;
import java.util.Map;

/** A layer in pages of a {@link CpuLoraMemory}. */
final class CpuLoraLayer implements LoraLayer, LoraResidence {
  private final CpuLoraMemory memory;
  private final int[] pages;
  private final Map<LoraSite, CpuLoraWeights> dense = new EnumMap<>(LoraSite.class);
  private final Map<LoraSite, CpuExpertLoraWeights> routed = new EnumMap<>(LoraSite.class);

  /** Written by the memory under its lock. */
  private volatile boolean freed;

  /**
   * @param pages their numbers
   * @param table of their addresses
   */
  CpuLoraLayer(CpuLoraMemory memory, int[] pages, CpuLoraImage image, PageTable table) {
    this.memory = memory;
    this.pages = pages;
    image
        .dense()
        .forEach(
            (site, pairs) ->
                dense.put(site, new CpuLoraWeights(memory.owner(), this, pairs.resolved(table))));
    image
        .routed()
        .forEach(
            (site, pairs) ->
                routed.put(
                    site, new CpuExpertLoraWeights(memory.owner(), this, pairs.resolved(table))));
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

  CpuLoraMemory memory() {
    return memory;
  }

  /** Numbers of the pages; not to be written. */
  int[] numbers() {
    return pages;
  }

  @Override
  public boolean alive() {
    return !freed && memory.open();
  }

  /** Ends the use of the weights. */
  void end() {
    freed = true;
  }
}
