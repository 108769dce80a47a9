package io.infinilora.backend.cpu;

import io.infinilora.backend.PagedLoraLayer;

/** A layer in pages of a {@link CpuLoraMemory}. */
final class CpuLoraLayer extends PagedLoraLayer implements LoraResidence {
  private final CpuLoraMemory memory;

  /**
   * @param pages their numbers
   * @param table of their addresses
   */
  CpuLoraLayer(CpuLoraMemory memory, int[] pages, CpuLoraImage image, PageTable table) {
    super(pages);
    this.memory = memory;
    CpuBackend owner = memory.owner();
    image
        .dense()
        .forEach(
            (site, pairs) -> set(site, new CpuLoraWeights(owner, this, pairs.resolved(table))));
    image
        .routed()
        .forEach(
            (site, pairs) ->
                set(site, new CpuExpertLoraWeights(owner, this, pairs.resolved(table))));
  }

  CpuLoraMemory memory() {
    return memory;
  }

  @Override
  public boolean alive() {
    return !ended() && memory.open();
  }
}
