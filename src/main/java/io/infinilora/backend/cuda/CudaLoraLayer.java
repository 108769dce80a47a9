package io.infinilora.backend.cuda;

import io.infinilora.backend.PagedLoraLayer;

/** A layer in pages of a {@link CudaLoraMemory}. */
final class CudaLoraLayer extends PagedLoraLayer implements LoraResidence {
  private final CudaLoraMemory memory;

  /**
   * @param pages their numbers
   */
  CudaLoraLayer(CudaLoraMemory memory, int[] pages, LoraLayout layout, LoraTables tables) {
    super(pages);
    this.memory = memory;
    CudaBackend owner = memory.owner();
    layout
        .dense()
        .forEach((site, plan) -> set(site, CudaLoraWeights.of(owner, this, plan, tables)));
    layout
        .routed()
        .forEach((site, plan) -> set(site, CudaExpertLoraWeights.of(owner, this, plan, tables)));
  }

  CudaLoraMemory memory() {
    return memory;
  }

  @Override
  public boolean alive() {
    return !ended() && memory.open();
  }
}
