package io.infinilora.weights;

import io.infinilora.core.LoraTarget;

/**
 * A linear layer of a model that an adapter changes.
 *
 * @param layer decoder layer
 * @param target which of its projections
 */
public record AdaptedModule(int layer, LoraTarget target) implements Comparable<AdaptedModule> {

  /** By layer, then in the order in which a layer reaches its projections. */
  @Override
  public int compareTo(AdaptedModule other) {
    int byLayer = Integer.compare(layer, other.layer);
    return byLayer != 0 ? byLayer : target.compareTo(other.target);
  }
}
