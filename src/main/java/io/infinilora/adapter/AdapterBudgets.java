package io.infinilora.adapter;

import io.infinilora.config.Eviction;

/**
 * How much memory adapters get.
 *
 * @param deviceBytes device memory, in whole pages
 * @param hostBytes host memory for packed adapters that are not on the device; 0 for none
 * @param eviction who leaves device memory first
 */
public record AdapterBudgets(long deviceBytes, long hostBytes, Eviction eviction) {

  /** A new eviction policy. */
  EvictionPolicy policy() {
    return switch (eviction) {
      case LRU -> new LeastRecentlyUsed();
      case GREEDY_DUAL -> new GreedyDual();
    };
  }
}
