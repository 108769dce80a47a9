package io.infinilora.adapter;

/** Evicts the adapter whose last use is longest ago. */
public final class LeastRecentlyUsed implements EvictionPolicy {
  @Override
  public double value(AdapterUsage usage) {
    return usage.lastUse();
  }
}
