package io.infinilora.adapter;

/**
 * GreedyDual-Size-Frequency (Cherkasova, HP Labs 1998): an adapter is worth its popularity times
 * what a page of it costs to bring back. A clock that rises with every eviction ages those that are
 * not used any more. Cost and size are both proportional to an adapter's pages, so only the place
 * it would come back from makes a difference between equally popular ones: host memory or disk.
 */
public final class GreedyDual implements EvictionPolicy {
  private double clock;

  @Override
  public double value(AdapterUsage usage) {
    return usage.priority();
  }

  @Override
  public void used(AdapterUsage usage) {
    usage.priority(clock + usage.popularity() * usage.reloadCost());
  }

  @Override
  public void evicted(AdapterUsage usage) {
    clock = Math.max(clock, usage.priority());
  }
}
