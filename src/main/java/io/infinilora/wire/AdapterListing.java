package io.infinilora.wire;

import io.infinilora.core.AdapterId;
import io.infinilora.core.LoraTarget;
import java.util.List;
import java.util.Set;

/**
 * The adapters that a LoRA Server holds.
 *
 * @param adapters in order of registration
 */
public record AdapterListing(List<Entry> adapters) {

  /** Copies the list. */
  public AdapterListing {
    adapters = List.copyOf(adapters);
  }

  /**
   * One adapter.
   *
   * @param id name and content
   * @param slot number by which steps refer to it
   * @param targets linear layers that it changes in at least one decoder layer
   */
  public record Entry(AdapterId id, int slot, Set<LoraTarget> targets) {

    /** Copies the set. */
    public Entry {
      targets = Set.copyOf(targets);
    }
  }
}
