package io.infinilora.metrics;

import io.infinilora.core.AdapterMemoryStats;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.EngineLoad;
import io.micrometer.core.instrument.Clock;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.DistributionSummary;
import io.micrometer.core.instrument.Gauge;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import io.micrometer.prometheusmetrics.PrometheusConfig;
import io.micrometer.prometheusmetrics.PrometheusMeterRegistry;
import io.prometheus.metrics.model.registry.PrometheusRegistry;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;
import java.util.function.ToDoubleFunction;

/**
 * All figures, through Micrometer, in Prometheus' format. Safe for any thread.
 *
 * <p>Per {@code adapter} (its name; {@code (base)} for none, {@code (other)} beyond the hundredth,
 * {@code (dry run)} for all trials):
 *
 * <ul>
 *   <li>{@code infinilora_requests_total} by {@code outcome} (stop, length, cancelled, error)
 *   <li>{@code infinilora_time_to_first_token_seconds}, {@code
 *       infinilora_time_per_output_token_seconds}, {@code infinilora_request_duration_seconds},
 *       {@code infinilora_queue_wait_seconds}: histograms
 *   <li>{@code infinilora_prompt_tokens_total}, {@code infinilora_output_tokens_total}
 *   <li>{@code infinilora_adapter_admissions_total} by {@code resident}: adapter hits and misses
 *   <li>{@code infinilora_preemptions_total}
 * </ul>
 *
 * <p>Of a gateway, per {@code base} (its name; {@code (other)} beyond the hundredth): {@code
 * infinilora_gateway_requests_total} and {@code infinilora_gateway_resumed_total}.
 *
 * <p>Of the whole engine:
 *
 * <ul>
 *   <li>{@code infinilora_step_duration_seconds}, {@code infinilora_step_rows}, {@code
 *       infinilora_step_sequences}: histograms over steps
 *   <li>{@code infinilora_prefix_cache_queried_tokens_total}, {@code
 *       infinilora_prefix_cache_hit_tokens_total}
 *   <li>{@code infinilora_requests_running}, {@code infinilora_requests_waiting}, {@code
 *       infinilora_kv_blocks_used}, {@code infinilora_kv_blocks}, {@code
 *       infinilora_adapters_in_use}: gauges
 *   <li>{@code vllm:num_requests_running}, {@code vllm:num_requests_waiting}, {@code
 *       vllm:kv_cache_usage_perc}, {@code vllm:lora_requests_info}: gauges for routers made for
 *       vLLM
 *   <li>{@code vllm:lora_adapter_loaded} by {@code adapter_name}, {@code level} (gpu, loading, cpu)
 *       and {@code pinned}, at most a hundred; {@code vllm:num_gpu_loaded_lora_adapters}, {@code
 *       vllm:num_cpu_loaded_lora_adapters}
 * </ul>
 *
 * <p>Per {@code shard} whose adapter memory is in this process:
 *
 * <ul>
 *   <li>{@code infinilora_lora_cache_claims_total}, of which {@code
 *       infinilora_lora_cache_hits_total} were admissible at once and {@code
 *       infinilora_lora_cache_misses_total} had to wait
 *   <li>{@code infinilora_lora_cache_loads_total}, {@code
 *       infinilora_lora_cache_loads_cancelled_total}, {@code
 *       infinilora_lora_cache_loads_failed_total}
 *   <li>{@code infinilora_lora_cache_evictions_total}, {@code infinilora_lora_cache_drains_total}
 *   <li>by {@code tier} (device, host): {@code infinilora_lora_cache_bytes}, {@code
 *       infinilora_lora_cache_budget_bytes}; with disk, too: {@code infinilora_lora_cache_adapters}
 * </ul>
 */
public final class PrometheusMetrics implements EngineMetrics, RequestMetrics, GatewayMetrics {
  private static final double[] STEP_SECONDS = {
    0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1
  };
  private static final double[] COUNTS = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048};

  private final Clock clock;
  private final PrometheusMeterRegistry registry;
  private final AdapterLabels labels = new AdapterLabels();
  private final Map<String, AdapterMeters> adapters = new ConcurrentHashMap<>();
  private final Map<String, CacheMeters> caches = new ConcurrentHashMap<>();
  private final ActiveAdapters active = new ActiveAdapters();
  private final GatewayMeters gateway;
  private final Timer stepDuration;
  private final DistributionSummary stepRows;
  private final DistributionSummary stepSequences;
  private final Counter prefixQueried;
  private final Counter prefixHit;
  private volatile VllmGauges vllm;
  private volatile AdapterGauges places;

  /** Metrics with a registry of their own. */
  public PrometheusMetrics() {
    this(Clock.SYSTEM);
  }

  PrometheusMetrics(Clock clock) {
    this.clock = clock;
    registry =
        new PrometheusMeterRegistry(PrometheusConfig.DEFAULT, new PrometheusRegistry(), clock);
    gateway = new GatewayMeters(registry);
    stepDuration =
        Timer.builder("infinilora.step.duration")
            .description("Time of one step of the model")
            .serviceLevelObjectives(AdapterMeters.durations(STEP_SECONDS))
            .register(registry);
    stepRows = summary("infinilora.step.rows", "Tokens computed in a step");
    stepSequences = summary("infinilora.step.sequences", "Sequences in a step");
    prefixQueried =
        Counter.builder("infinilora.prefix.cache.queried.tokens")
            .description("Prompt tokens looked up in the prefix cache")
            .register(registry);
    prefixHit =
        Counter.builder("infinilora.prefix.cache.hit.tokens")
            .description("Prompt tokens found in the prefix cache")
            .register(registry);
  }

  private DistributionSummary summary(String name, String description) {
    return DistributionSummary.builder(name)
        .description(description)
        .serviceLevelObjectives(COUNTS)
        .register(registry);
  }

  /**
   * Adds the gauges of an engine. Called once.
   *
   * @param load read at each scrape
   * @param maxAdapters most adapters that can compute at the same time
   */
  public void watch(Supplier<EngineLoad> load, int maxAdapters) {
    gauge(load, "infinilora.requests.running", "Requests that compute", EngineLoad::running);
    gauge(load, "infinilora.requests.waiting", "Requests in the queue", EngineLoad::waiting);
    gauge(load, "infinilora.kv.blocks.used", "KV blocks held", EngineLoad::kvBlocksUsed);
    gauge(load, "infinilora.kv.blocks", "KV blocks", EngineLoad::kvBlocksTotal);
    gauge(
        load,
        "infinilora.adapters.in.use",
        "Adapters of running requests",
        EngineLoad::adaptersInUse);
    vllm = new VllmGauges(load, active, maxAdapters, clock::wallTime);
  }

  /**
   * Adds the gauges of where adapters lie. Called once.
   *
   * @param list all adapters; called at each scrape, on its thread
   */
  public void watchAdapters(Supplier<List<AdapterStatus>> list) {
    places = new AdapterGauges(list);
  }

  private void gauge(
      Supplier<EngineLoad> load,
      String name,
      String description,
      ToDoubleFunction<EngineLoad> value) {
    Gauge.builder(name, load, l -> value.applyAsDouble(l.get()))
        .description(description)
        .strongReference(true)
        .register(registry);
  }

  /** The registry, for meters of libraries. */
  public MeterRegistry registry() {
    return registry;
  }

  /** All figures in Prometheus' text format. */
  public String scrape() {
    VllmGauges gauges = vllm;
    AdapterGauges adapterGauges = places;
    return registry.scrape()
        + (gauges == null ? "" : gauges.text())
        + (adapterGauges == null ? "" : adapterGauges.text());
  }

  @Override
  public void watchMemory(String shard, Supplier<AdapterMemoryStats> stats) {
    caches.compute(
        shard,
        (name, meters) -> {
          if (meters == null) {
            return new CacheMeters(registry, name, stats);
          }
          meters.replace(stats);
          return meters;
        });
  }

  private AdapterMeters meters(Optional<String> adapter) {
    return adapters.computeIfAbsent(
        labels.of(adapter), label -> new AdapterMeters(registry, label));
  }

  @Override
  public void queued(Optional<String> adapter) {
    active.queued(adapter);
  }

  @Override
  public void admitted(Optional<String> adapter, long waitNanos, boolean adapterResident) {
    active.admitted(adapter);
    AdapterMeters meters = meters(adapter);
    meters.queueWait.record(waitNanos, TimeUnit.NANOSECONDS);
    if (adapter.isPresent()) {
      (adapterResident ? meters.admissionsResident : meters.admissionsLoading).increment();
    }
  }

  @Override
  public void prefixLookup(int promptTokens, int cachedTokens) {
    prefixQueried.increment(promptTokens);
    prefixHit.increment(cachedTokens);
  }

  @Override
  public void preempted(Optional<String> adapter) {
    active.preempted(adapter);
    meters(adapter).preemptions.increment();
  }

  @Override
  public void abandoned(Optional<String> adapter) {
    active.abandoned(adapter);
  }

  @Override
  public void released(Optional<String> adapter) {
    active.released(adapter);
  }

  @Override
  public void step(int sequences, int rows, long nanos) {
    stepDuration.record(nanos, TimeUnit.NANOSECONDS);
    stepRows.record(rows);
    stepSequences.record(sequences);
  }

  @Override
  public void routed(String base) {
    gateway.routed(base);
  }

  @Override
  public void resumed(String base) {
    gateway.resumed(base);
  }

  @Override
  public Generation begin(Optional<String> adapter) {
    return new TimedGeneration(clock, meters(adapter));
  }
}
