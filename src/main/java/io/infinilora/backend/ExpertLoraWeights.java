package io.infinilora.backend;

/**
 * One adapter's matrices for one routed site of one layer, packed for the device: per expert what
 * {@link LoraWeights} holds for a dense site. Experts may be absent and ranks may differ between
 * experts and targets.
 */
public interface ExpertLoraWeights {
  /** Number of experts of the layer, absent ones included. */
  int experts();

  /** Rank of a target in an expert; 0 if the adapter leaves it alone. */
  int rank(int expert, int target);

  /** Input features. */
  int in();

  /** Bytes held. */
  long bytes();
}
