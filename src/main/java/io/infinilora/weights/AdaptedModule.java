package io.infinilora.weights;

import io.infinilora.core.LoraTarget;

/**
 * A linear layer of a model that an adapter changes.
 *
 * @param layer decoder layer
 * @param target which of its projections
 * @param expert which expert's, or {@link #DENSE}
 */
public record AdaptedModule(int layer, LoraTarget target, int expert)
    implements Comparable<AdaptedModule> {

  /** Marks a projection that is not an expert's. */
  public static final int DENSE = -1;

  /** A projection that every row goes through. */
  public AdaptedModule(int layer, LoraTarget target) {
    this(layer, target, DENSE);
  }

  /** By layer, then in the order in which a layer reaches its projections, then by expert. */
  @Override
  public int compareTo(AdaptedModule other) {
    int byLayer = Integer.compare(layer, other.layer);
    int byTarget = byLayer != 0 ? byLayer : target.compareTo(other.target);
    return byTarget != 0 ? byTarget : Integer.compare(expert, other.expert);
  }
}
