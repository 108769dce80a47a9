package io.infinilora.adapter;

import io.infinilora.core.AdapterId;
import io.infinilora.core.LoraTarget;
import java.nio.file.Path;
import java.nio.file.attribute.FileTime;
import java.util.Objects;
import java.util.Set;

/**
 * One content of an adapter under its name: what is known of it while its weights are on disk only.
 *
 * @param id name and digest of the content
 * @param source the directory it lies in
 * @param targets linear layers that it changes in at least one decoder layer
 * @param maxRank largest rank
 * @param layerPages device pages that each layer takes here; shared, must not be changed
 * @param fileBytes bytes of its weights file
 * @param modified when that file was last modified, to notice if it is not what was checked
 */
public record AdapterGeneration(
    AdapterId id,
    Path source,
    Set<LoraTarget> targets,
    int maxRank,
    int[] layerPages,
    long fileBytes,
    FileTime modified) {

  /** Copies the set. */
  public AdapterGeneration {
    Objects.requireNonNull(id);
    Objects.requireNonNull(source);
    targets = Set.copyOf(targets);
  }

  /** Device pages of all layers. */
  public int pages() {
    int sum = 0;
    for (int pages : layerPages) {
      sum += pages;
    }
    return sum;
  }

  @Override
  public String toString() {
    return id.toString();
  }
}
