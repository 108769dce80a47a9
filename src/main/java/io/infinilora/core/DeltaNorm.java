package io.infinilora.core;

/**
 * How much an adapter changes one linear layer.
 *
 * @param layer decoder layer
 * @param target which of its projections
 * @param pairs low-rank pairs: 1, or one per expert that is changed
 * @param norm Frobenius norm of {@code scale * B A}, over all of them
 */
public record DeltaNorm(int layer, LoraTarget target, int pairs, double norm) {

  /** The norm of further pairs of the same layer and these ones together. */
  DeltaNorm plus(DeltaNorm other) {
    return new DeltaNorm(layer, target, pairs + other.pairs, Math.hypot(norm, other.norm));
  }
}
