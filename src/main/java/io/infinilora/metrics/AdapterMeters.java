package io.infinilora.metrics;

import io.infinilora.metrics.RequestMetrics.Outcome;
import io.micrometer.core.instrument.Counter;
import io.micrometer.core.instrument.MeterRegistry;
import io.micrometer.core.instrument.Timer;
import java.time.Duration;
import java.util.EnumMap;
import java.util.Locale;
import java.util.Map;
import java.util.stream.DoubleStream;

/** The meters of one value of the {@code adapter} label. */
final class AdapterMeters {
  private static final double[] LATENCY_SECONDS = {
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120
  };
  private static final double[] PER_TOKEN_SECONDS = {
    0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1
  };

  final Timer firstToken;
  final Timer perToken;
  final Timer duration;
  final Timer queueWait;
  final Counter promptTokens;
  final Counter outputTokens;
  final Counter preemptions;
  final Counter admissionsResident;
  final Counter admissionsLoading;
  final Map<Outcome, Counter> outcomes = new EnumMap<>(Outcome.class);

  AdapterMeters(MeterRegistry registry, String adapter) {
    firstToken =
        timer(
            registry,
            adapter,
            "infinilora.time.to.first.token",
            "Request received to first output token",
            LATENCY_SECONDS);
    perToken =
        timer(
            registry,
            adapter,
            "infinilora.time.per.output.token",
            "Mean time between output tokens of a request, after the first",
            PER_TOKEN_SECONDS);
    duration =
        timer(
            registry,
            adapter,
            "infinilora.request.duration",
            "Request received to its end",
            LATENCY_SECONDS);
    queueWait =
        timer(
            registry,
            adapter,
            "infinilora.queue.wait",
            "Time a request waited for admission",
            LATENCY_SECONDS);
    promptTokens = counter(registry, adapter, "infinilora.prompt.tokens", "Tokens of prompts");
    outputTokens = counter(registry, adapter, "infinilora.output.tokens", "Tokens generated");
    preemptions =
        counter(registry, adapter, "infinilora.preemptions", "Requests put back into the queue");
    admissionsResident = admissions(registry, adapter, true);
    admissionsLoading = admissions(registry, adapter, false);
    for (Outcome outcome : Outcome.values()) {
      outcomes.put(
          outcome,
          Counter.builder("infinilora.requests")
              .description("Generations by how they ended")
              .tag("adapter", adapter)
              .tag("outcome", outcome.name().toLowerCase(Locale.ROOT))
              .register(registry));
    }
  }

  private static Counter admissions(MeterRegistry registry, String adapter, boolean resident) {
    return Counter.builder("infinilora.adapter.admissions")
        .description("Admissions by whether the adapter could compute at once")
        .tag("adapter", adapter)
        .tag("resident", Boolean.toString(resident))
        .register(registry);
  }

  private static Counter counter(
      MeterRegistry registry, String adapter, String name, String description) {
    return Counter.builder(name)
        .description(description)
        .tag("adapter", adapter)
        .register(registry);
  }

  private static Timer timer(
      MeterRegistry registry,
      String adapter,
      String name,
      String description,
      double[] bucketSeconds) {
    return Timer.builder(name)
        .description(description)
        .tag("adapter", adapter)
        .serviceLevelObjectives(durations(bucketSeconds))
        .register(registry);
  }

  static Duration[] durations(double[] seconds) {
    return DoubleStream.of(seconds)
        .mapToObj(s -> Duration.ofNanos(Math.round(s * 1e9)))
        .toArray(Duration[]::new);
  }
}
