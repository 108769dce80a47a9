package io.infinilora.backend;

/**
 * One adapter's matrices for one site of one layer, packed for the device: A of all present targets
 * stacked, then each target's B. Targets keep the order of {@link
 * io.infinilora.core.LoraSite#targets()}; absent ones have rank 0.
 */
public interface LoraWeights {
  /** Rank of the target with this index at its site; 0 if the adapter leaves it alone. */
  int rank(int target);

  /** Input features. */
  int in();

  /** Bytes held. */
  long bytes();
}
