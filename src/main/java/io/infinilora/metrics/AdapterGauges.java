package io.infinilora.metrics;

import io.infinilora.core.AdapterStatus;
import io.infinilora.core.AdapterStatus.Tier;
import java.util.List;
import java.util.Locale;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Gauges that tell routers where adapters lie, in Prometheus' text format. Adapters that are on
 * disk only are not named, and of the others the first {@link AdapterLabels#MAX_ADAPTERS}, so that
 * the number of time series is bounded.
 */
final class AdapterGauges {
  private static final Logger LOG = LoggerFactory.getLogger(AdapterGauges.class);

  private final Supplier<List<AdapterStatus>> adapters;

  AdapterGauges(Supplier<List<AdapterStatus>> adapters) {
    this.adapters = adapters;
  }

  /** The lines at this moment. */
  String text() {
    List<AdapterStatus> all;
    try {
      all = adapters.get();
    } catch (RuntimeException e) {
      LOG.warn("Where adapters lie is not known: {}", e.toString());
      return ""; // The other figures are worth more then than ever.
    }
    StringBuilder out = new StringBuilder();
    head(out, "vllm:lora_adapter_loaded", "1 for each adapter in memory.");
    all.stream()
        .filter(a -> a.tier() != Tier.DISK)
        .limit(AdapterLabels.MAX_ADAPTERS)
        .forEach(
            a ->
                out.append("vllm:lora_adapter_loaded{adapter_name=\"")
                    .append(VllmGauges.escaped(a.id().name()))
                    .append("\",level=\"")
                    .append(level(a.tier()))
                    .append("\",pinned=\"")
                    .append(a.pinned())
                    .append("\"} 1.0\n"));
    count(out, "vllm:num_gpu_loaded_lora_adapters", "Adapters in device memory.", all, "gpu");
    count(out, "vllm:num_cpu_loaded_lora_adapters", "Adapters in host memory.", all, "cpu");
    return out.toString();
  }

  private static String level(Tier tier) {
    return switch (tier) {
      case DEVICE -> "gpu";
      case HOST -> "cpu";
      default -> tier.name().toLowerCase(Locale.ROOT);
    };
  }

  private static void count(
      StringBuilder out, String name, String help, List<AdapterStatus> all, String level) {
    head(out, name, help);
    long count = all.stream().filter(a -> level(a.tier()).equals(level)).count();
    out.append(name).append(' ').append((double) count).append('\n');
  }

  private static void head(StringBuilder out, String name, String help) {
    out.append("# HELP ").append(name).append(' ').append(help).append('\n');
    out.append("# TYPE ").append(name).append(" gauge\n");
  }
}
