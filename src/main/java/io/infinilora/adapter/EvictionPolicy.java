package io.infinilora.adapter;

/** Chooses which idle adapter leaves device memory first. Used by one thread. */
public interface EvictionPolicy {

  /** What staying is worth; the adapter with the least goes first. */
  double value(AdapterUsage usage);

  /** An adapter was used: a claim on it began. */
  default void used(AdapterUsage usage) {}

  /** An adapter was evicted for another one. */
  default void evicted(AdapterUsage usage) {}
}
