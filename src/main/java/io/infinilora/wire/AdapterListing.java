package io.infinilora.wire;

import io.infinilora.core.AdapterStatus;
import java.util.List;

/**
 * The adapters that a LoRA Server has.
 *
 * @param version number of {@link AdapterChange}s that it contains
 * @param adapters in order of registration
 */
public record AdapterListing(long version, List<AdapterStatus> adapters) {

  /** Copies the list. */
  public AdapterListing {
    adapters = List.copyOf(adapters);
  }
}
