package io.infinilora.metrics;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.AdapterStatus.Tier;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.LoraTarget;
import io.infinilora.metrics.RequestMetrics.Generation;
import io.infinilora.metrics.RequestMetrics.Outcome;
import io.micrometer.core.instrument.MockClock;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** Names and values of the figures, as Prometheus reads them. */
class PrometheusMetricsTest {
  private static final Optional<String> PIRATE = Optional.of("pirate");

  private final MockClock clock = new MockClock();
  private final PrometheusMetrics metrics = new PrometheusMetrics(clock);

  @Test
  void timesAGeneration() {
    Generation generation = metrics.begin(PIRATE);
    clock.add(Duration.ofMillis(200));
    generation.token();
    clock.add(Duration.ofMillis(40));
    generation.token();
    clock.add(Duration.ofMillis(60));
    generation.token();
    generation.end(Outcome.LENGTH, 7);

    assertThat(metrics.scrape())
        .contains("infinilora_time_to_first_token_seconds_sum{adapter=\"pirate\"} 0.2\n")
        .contains(
            "infinilora_time_to_first_token_seconds_bucket{adapter=\"pirate\",le=\"0.1\"} 0\n")
        .contains(
            "infinilora_time_to_first_token_seconds_bucket{adapter=\"pirate\",le=\"0.25\"} 1\n")
        .contains("infinilora_time_per_output_token_seconds_sum{adapter=\"pirate\"} 0.05\n")
        .contains("infinilora_request_duration_seconds_sum{adapter=\"pirate\"} 0.3\n")
        .contains("infinilora_prompt_tokens_total{adapter=\"pirate\"} 7.0\n")
        .contains("infinilora_output_tokens_total{adapter=\"pirate\"} 3.0\n")
        .contains("infinilora_requests_total{adapter=\"pirate\",outcome=\"length\"} 1.0\n")
        .contains("infinilora_requests_total{adapter=\"pirate\",outcome=\"stop\"} 0.0\n");
  }

  @Test
  void showsWhereAdaptersLieInBoundedNumber() {
    List<AdapterStatus> all = new ArrayList<>();
    all.add(status("pi\"rate", Tier.DEVICE, true));
    all.add(status("disk", Tier.DISK, false));
    for (int i = 0; i < 200; i++) {
      all.add(status("host" + i, Tier.HOST, false));
    }
    metrics.watchAdapters(() -> all);

    assertThat(metrics.scrape())
        .contains(
            "vllm:lora_adapter_loaded{adapter_name=\"pi\\\"rate\",level=\"gpu\",pinned=\"true\"} 1.0\n")
        .contains("adapter_name=\"host98\",level=\"cpu\",pinned=\"false\"} 1.0\n")
        .contains("vllm:num_gpu_loaded_lora_adapters 1.0\n")
        .contains("vllm:num_cpu_loaded_lora_adapters 200.0\n")
        .doesNotContain("\"host99\"")
        .doesNotContain("\"disk\"");
  }

  /** Each trial has a name of its own, and there may be any number of them. */
  @Test
  void dryRunsShareALabel() {
    for (int i = 0; i < 200; i++) {
      metrics.begin(Optional.of(AdapterLoad.dryRunName())).end(Outcome.STOP, 1);
    }
    metrics.begin(Optional.of("pirate")).end(Outcome.STOP, 2);

    assertThat(metrics.scrape())
        .contains("infinilora_prompt_tokens_total{adapter=\"(dry run)\"} 200.0\n")
        .contains("infinilora_prompt_tokens_total{adapter=\"pirate\"} 2.0\n")
        .doesNotContain("(dry run) ");
  }

  private static AdapterStatus status(String name, Tier tier, boolean pinned) {
    return new AdapterStatus(
        new AdapterId(name, "0"), "x", Set.of(LoraTarget.Q), 1, 1, 1, tier, pinned, 0);
  }

  @Test
  void countsWhatAGatewaySendsToEachBaseInBoundedNumber() {
    metrics.routed("base-a");
    metrics.routed("base-a");
    metrics.resumed("base-a");
    for (int i = 0; i < 200; i++) {
      metrics.routed("more" + i);
    }
    metrics.routed("base-a");

    assertThat(metrics.scrape())
        .contains("infinilora_gateway_requests_total{base=\"base-a\"} 3.0\n")
        .contains("infinilora_gateway_resumed_total{base=\"base-a\"} 1.0\n")
        .contains("infinilora_gateway_requests_total{base=\"more98\"} 1.0\n")
        .contains("infinilora_gateway_requests_total{base=\"(other)\"} 101.0\n")
        .doesNotContain("more99");
  }

  @Test
  void aGenerationOfOneTokenHasNoTimePerToken() {
    Generation generation = metrics.begin(Optional.empty());
    generation.token();
    generation.end(Outcome.STOP, 1);

    assertThat(metrics.scrape())
        .contains("infinilora_time_per_output_token_seconds_count{adapter=\"(base)\"} 0\n");
  }

  @Test
  void boundsTheNumberOfLabels() {
    for (int i = 0; i < 150; i++) {
      metrics.begin(Optional.of("a" + i)).end(Outcome.STOP, 1);
    }
    metrics.begin(Optional.of("a99")).end(Outcome.STOP, 1);

    String text = metrics.scrape();
    assertThat(text)
        .contains("infinilora_prompt_tokens_total{adapter=\"a99\"} 2.0\n")
        .contains("infinilora_prompt_tokens_total{adapter=\"(other)\"} 50.0\n")
        .doesNotContain("\"a100\"");
  }

  @Test
  void countsAdmissionsStepsAndPrefixes() {
    metrics.queued(PIRATE);
    metrics.admitted(PIRATE, 30_000_000, false);
    metrics.preempted(PIRATE);
    metrics.admitted(PIRATE, 0, true);
    metrics.step(3, 40, 5_000_000);
    metrics.prefixLookup(100, 64);

    assertThat(metrics.scrape())
        .contains("infinilora_adapter_admissions_total{adapter=\"pirate\",resident=\"false\"} 1.0")
        .contains("infinilora_adapter_admissions_total{adapter=\"pirate\",resident=\"true\"} 1.0")
        .contains("infinilora_queue_wait_seconds_sum{adapter=\"pirate\"} 0.03\n")
        .contains("infinilora_preemptions_total{adapter=\"pirate\"} 1.0\n")
        .contains("infinilora_step_duration_seconds_sum 0.005\n")
        .contains("infinilora_step_rows_sum 40.0\n")
        .contains("infinilora_step_sequences_sum 3.0\n")
        .contains("infinilora_prefix_cache_queried_tokens_total 100.0\n")
        .contains("infinilora_prefix_cache_hit_tokens_total 64.0\n");
  }

  @Test
  void showsTheEnginesLoadUnderBothNames() {
    metrics.watch(() -> new EngineLoad(3, 5, 16, 64, 2), 8);
    metrics.queued(PIRATE);
    metrics.queued(Optional.of("haiku"));
    metrics.queued(Optional.of("gone"));
    metrics.abandoned(Optional.of("gone"));
    metrics.admitted(PIRATE, 0, true);
    metrics.admitted(Optional.empty(), 0, true);

    assertThat(metrics.scrape())
        .contains("infinilora_requests_running 3.0\n")
        .contains("infinilora_requests_waiting 5.0\n")
        .contains("infinilora_kv_blocks_used 16.0\n")
        .contains("infinilora_kv_blocks 64.0\n")
        .contains("infinilora_adapters_in_use 2.0\n")
        .contains("vllm:num_requests_waiting 5.0\n")
        .contains("vllm:num_requests_running 3.0\n")
        .contains("vllm:kv_cache_usage_perc 0.25\n")
        .containsPattern(
            "vllm:lora_requests_info\\{max_lora=\"8\",running_lora_adapters=\"pirate\","
                + "waiting_lora_adapters=\"haiku\"\\} 0\\.001\n");

    metrics.released(PIRATE);
    assertThat(metrics.scrape()).contains("running_lora_adapters=\"\"");
  }
}
