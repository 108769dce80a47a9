package io.infinilora.metrics;

import io.infinilora.core.EngineLoad;
import java.util.Set;
import java.util.function.LongSupplier;
import java.util.function.Supplier;

/**
 * The gauges by which routers made for vLLM choose an instance, in Prometheus' text format. Written
 * by hand: Micrometer replaces the colon of their names, and Prometheus' own client refuses a gauge
 * that ends in {@code _info}.
 */
final class VllmGauges {
  private final Supplier<EngineLoad> load;
  private final ActiveAdapters active;
  private final int maxAdapters;
  private final LongSupplier epochMillis;

  VllmGauges(
      Supplier<EngineLoad> load, ActiveAdapters active, int maxAdapters, LongSupplier epochMillis) {
    this.load = load;
    this.active = active;
    this.maxAdapters = maxAdapters;
    this.epochMillis = epochMillis;
  }

  /** The lines at this moment. */
  String text() {
    EngineLoad now = load.get();
    StringBuilder out = new StringBuilder();
    gauge(out, "vllm:num_requests_waiting", "Requests waiting.", "", now.waiting());
    gauge(out, "vllm:num_requests_running", "Requests running.", "", now.running());
    gauge(
        out,
        "vllm:kv_cache_usage_perc",
        "Used part of the KV cache; 1 is all of it.",
        "",
        (double) now.kvBlocksUsed() / Math.max(1, now.kvBlocksTotal()));
    gauge(
        out,
        "vllm:lora_requests_info",
        "Adapters of running and waiting requests; the value is the time of this scrape.",
        "{max_lora=\"%d\",running_lora_adapters=\"%s\",waiting_lora_adapters=\"%s\"}"
            .formatted(maxAdapters, names(active.running()), names(active.waiting())),
        epochMillis.getAsLong() / 1000.0);
    return out.toString();
  }

  private static void gauge(
      StringBuilder out, String name, String help, String labels, double value) {
    out.append("# HELP ").append(name).append(' ').append(help).append('\n');
    out.append("# TYPE ").append(name).append(" gauge\n");
    out.append(name).append(labels).append(' ').append(value).append('\n');
  }

  private static String names(Set<String> adapters) {
    return escaped(String.join(",", adapters));
  }

  /** Text as a label's value. */
  static String escaped(String text) {
    return text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n");
  }
}
