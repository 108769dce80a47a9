package io.infinilora.metrics;

import io.infinilora.core.AdapterMemoryStats;
import java.util.function.Supplier;

/** What is measured where adapters are held. Methods return at once and never throw. */
public interface LoraMetrics {
  /** Measures nothing. */
  LoraMetrics NONE = new LoraMetrics() {};

  /**
   * Reads the figures of a shard from now on, in place of those of an earlier shard of that name;
   * counters may begin again. Any thread.
   *
   * @param shard its place in the grid, such as {@code EP0/1-PP0/1}
   * @param stats gives the present figures on any thread, at once
   */
  default void watchMemory(String shard, Supplier<AdapterMemoryStats> stats) {}
}
