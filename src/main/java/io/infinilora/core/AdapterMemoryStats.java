package io.infinilora.core;

/**
 * Figures of the adapter memory of one shard, or of a base model that computes its deltas itself.
 *
 * @param cache what the cache of the device tier has done since its start
 * @param device adapters that are complete in device memory, and the bytes of all that have memory
 * @param host adapters that are complete in host memory, whether they are on the device or not
 * @param registered adapters that requests may name
 */
public record AdapterMemoryStats(AdapterCacheStats cache, Tier device, Tier host, int registered) {

  /**
   * One tier.
   *
   * @param adapters adapters in it
   * @param bytes bytes in use
   * @param budget bytes there are
   */
  public record Tier(int adapters, long bytes, long budget) {}
}
