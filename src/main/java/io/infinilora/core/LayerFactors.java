package io.infinilora.core;

import java.util.Collections;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;

/**
 * Everything that one adapter changes in one layer, as it lies in the adapter's file. Sites that it
 * leaves alone are absent.
 *
 * @param dense per site a pair per target, null for targets that the adapter leaves alone
 * @param routed per site with experts, per expert such a list; null for experts that the adapter
 *     leaves alone or that are held elsewhere
 */
public record LayerFactors(
    Map<LoraSite, List<LoraFactors>> dense, Map<LoraSite, List<List<LoraFactors>>> routed) {

  /** Copies the maps. */
  public LayerFactors {
    dense = copy(dense);
    routed = copy(routed);
  }

  private static <V> Map<LoraSite, V> copy(Map<LoraSite, V> map) {
    Map<LoraSite, V> copy = new EnumMap<>(LoraSite.class);
    copy.putAll(map);
    return Collections.unmodifiableMap(copy);
  }

  /** Whether the adapter changes nothing in this layer. */
  public boolean isEmpty() {
    return dense.isEmpty() && routed.isEmpty();
  }
}
