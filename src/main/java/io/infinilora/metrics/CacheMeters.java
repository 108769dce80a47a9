package io.infinilora.metrics;

import io.infinilora.core.AdapterCacheStats;
import io.infinilora.core.AdapterMemoryStats;
import io.micrometer.core.instrument.FunctionCounter;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.function.Function;
import java.util.function.Supplier;
import java.util.function.ToLongFunction;

/** The meters of one shard's adapter memory. Any thread. */
final class CacheMeters {
  private static final String PREFIX = "infinilora.lora.cache.";

  private final MeterRegistry registry;
  private final String shard;

  /** Read at each scrape; another one when the shard begins again. */
  private volatile Supplier<AdapterMemoryStats> stats;

  CacheMeters(MeterRegistry registry, String shard, Supplier<AdapterMemoryStats> stats) {
    this.registry = registry;
    this.shard = shard;
    this.stats = stats;
    counter("claims", "Claims on adapters", AdapterCacheStats::claims);
    counter("hits", "Claims that were admissible at once", AdapterCacheStats::immediate);
    counter("misses", "Claims that had to wait", s -> s.claims() - s.immediate());
    counter("loads", "Loads into device memory that were started", AdapterCacheStats::loads);
    counter(
        "loads.cancelled",
        "Loads given up because nobody waited any more",
        AdapterCacheStats::cancelled);
    counter("loads.failed", "Loads that failed", AdapterCacheStats::failed);
    counter("evictions", "Adapters that left for another one", AdapterCacheStats::evictions);
    counter("drains", "Adapters whose holders were asked to let go", AdapterCacheStats::drains);
    tier("device", AdapterMemoryStats::device);
    tier("host", AdapterMemoryStats::host);
    adapters("disk", AdapterMemoryStats::registered);
  }

  /** The shard has begun again. */
  void replace(Supplier<AdapterMemoryStats> now) {
    stats = now;
  }

  private void counter(String name, String description, ToLongFunction<AdapterCacheStats> value) {
    FunctionCounter.builder(
            PREFIX + name, this, meters -> value.applyAsLong(meters.stats.get().cache()))
        .description(description)
        .tag("shard", shard)
        .register(registry);
  }

  private void tier(String tier, Function<AdapterMemoryStats, AdapterMemoryStats.Tier> of) {
    adapters(tier, s -> of.apply(s).adapters());
    gauge("bytes", "Bytes that adapters take", tier, s -> of.apply(s).bytes());
    gauge("budget.bytes", "Bytes that adapters may take", tier, s -> of.apply(s).budget());
  }

  private void adapters(String tier, ToLongFunction<AdapterMemoryStats> value) {
    gauge("adapters", "Adapters that are complete in a tier", tier, value);
  }

  private void gauge(
      String name, String description, String tier, ToLongFunction<AdapterMemoryStats> value) {
    Gauge.builder(PREFIX + name, this, meters -> value.applyAsLong(meters.stats.get()))
        .description(description)
        .tag("shard", shard)
        .tag("tier", tier)
        .register(registry);
  }
}
