package io.infinilora.metrics;

import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/**
 * Counters of a gateway by base. The first {@link #MAX_BASES} have a label of their own, the rest
 * share one, so that the number of time series is bounded. Safe for any thread.
 */
final class GatewayMeters implements GatewayMetrics {
  /** Bases with a label of their own. */
  static final int MAX_BASES = 100;

  /** Bases beyond the limit. */
  static final String OTHER = "(other)";

  private record Counters(Counter routed, Counter resumed) {}

  private final MeterRegistry registry;
  private final Map<String, Counters> bases = new ConcurrentHashMap<>();

  GatewayMeters(MeterRegistry registry) {
    this.registry = registry;
  }

  private Counters of(String base) {
    Counters known = bases.get(base);
    return known == null ? add(base) : known;
  }

  private synchronized Counters add(String base) {
    return bases.computeIfAbsent(
        bases.containsKey(base) || bases.size() < MAX_BASES ? base : OTHER, this::counters);
  }

  private Counters counters(String base) {
    return new Counters(
        Counter.builder("infinilora.gateway.requests")
            .description("Generations sent to a base, again included")
            .tag("base", base)
            .register(registry),
        Counter.builder("infinilora.gateway.resumed")
            .description("Interrupted generations that go on at a base")
            .tag("base", base)
            .register(registry));
  }

  @Override
  public void routed(String base) {
    of(base).routed.increment();
  }

  @Override
  public void resumed(String base) {
    of(base).resumed.increment();
  }
}
