package io.infinilora.adapter;

import io.infinilora.core.AdapterId;
import io.infinilora.core.LoraTarget;
import java.util.Collections;
import java.util.Objects;
import java.util.Set;
import java.util.TreeSet;

/**
 * What a base model has to know of an adapter that somebody else holds.
 *
 * @param id name and content
 * @param slot number by which steps refer to it
 * @param targets linear layers that it changes in at least one decoder layer
 * @param maxRank largest rank
 * @param bytes memory of the packed weights
 * @param source the directory it came from
 */
public record AdapterInfo(
    AdapterId id, int slot, Set<LoraTarget> targets, int maxRank, long bytes, String source) {

  /** Copies the set, in the order of {@link LoraTarget}. */
  public AdapterInfo {
    Objects.requireNonNull(id);
    targets = Collections.unmodifiableSet(new TreeSet<>(targets));
  }
}
