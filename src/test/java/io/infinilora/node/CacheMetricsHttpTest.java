package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.LoraShard;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What {@code /metrics} says of adapter memory in which there is room for one. */
class CacheMetricsHttpTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final Path ADAPTERS = MODEL.resolve("adapters").toAbsolutePath();

  private static ServedNode serve(LoraMode mode, long deviceBytes) {
    return new ServedNode(
        new InfiniLoraConfig(
                Optional.of(MODEL),
                Optional.of(ADAPTERS),
                mode,
                ServerConfig.DEFAULTS,
                new EngineConfig(
                    Optional.of(1),
                    Optional.of(1),
                    Optional.empty(),
                    ByteSize.mebibytes(4),
                    8,
                    32,
                    64,
                    16,
                    true,
                    EngineConfig.DEFAULT_POLICY,
                    EngineConfig.DEFAULT_STEP_DEADLINE))
            .withLora(
                new LoraConfig(
                    new ByteSize(deviceBytes),
                    ByteSize.mebibytes(8),
                    Eviction.LRU,
                    LoraGrid.SINGLE,
                    Duration.ofMinutes(1),
                    LoraConfig.DEFAULT_RETRY_FOR)));
  }

  private static JsonNode adapter(ServedNode server, String name) {
    for (JsonNode adapter : ServedNode.json(server.get("/v1/lora_adapters").body()).path("data")) {
      if (adapter.path("id").asText().equals(name)) {
        return adapter;
      }
    }
    throw new AssertionError(name + " is not listed");
  }

  private static String tier(ServedNode server, String name) {
    return adapter(server, name).path("tier").asText();
  }

  private static void ask(ServedNode server, String adapter) {
    String body = ServedNode.body(adapter, new int[] {5, 17, 99}, 4, false);
    assertThat(server.complete(body).join().tokens()).hasSize(4);
    // Leases are returned by messages that may be on their way.
    server.until(() -> adapter(server, adapter).path("claims").asInt() == 0);
  }

  private static double count(ServedNode server, String name) {
    return server.metric(
        "infinilora_lora_cache_%s_total{shard=\"%s\"}".formatted(name, LoraShard.WHOLE));
  }

  private static double gauge(ServedNode server, String name, String tier) {
    return server.metric(
        "infinilora_lora_cache_%s{shard=\"%s\",tier=\"%s\"}"
            .formatted(name, LoraShard.WHOLE, tier));
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void hitsMissesAndEvictionsAreCounted(LoraMode mode) {
    long room;
    try (ServedNode server = serve(mode, 16 << 20)) {
      room =
          Math.max(
              adapter(server, "a0").path("device_bytes").asLong(),
              adapter(server, "a1").path("device_bytes").asLong());
      assertThat(gauge(server, "budget_bytes", "device")).isEqualTo(16 << 20);
      server.until(() -> gauge(server, "adapters", "device") == 3);
      assertThat(count(server, "loads")).isEqualTo(3);
    }
    try (ServedNode server = serve(mode, room)) {
      server.until(() -> tier(server, "a0").equals("device"));
      assertThat(count(server, "claims")).isZero();

      ask(server, "a0");
      assertThat(count(server, "claims")).isEqualTo(1);
      assertThat(count(server, "hits")).isEqualTo(1);
      assertThat(count(server, "misses")).isZero();
      assertThat(count(server, "evictions")).isZero();
      assertThat(count(server, "loads")).isEqualTo(1);
      assertThat(gauge(server, "bytes", "device"))
          .isEqualTo(adapter(server, "a0").path("device_bytes").asLong());

      ask(server, "a1");
      assertThat(count(server, "claims")).isEqualTo(2);
      assertThat(count(server, "hits")).isEqualTo(1);
      assertThat(count(server, "misses")).isEqualTo(1);
      assertThat(count(server, "evictions")).isEqualTo(1);
      assertThat(count(server, "loads")).isEqualTo(2);
      for (String none : new String[] {"loads_cancelled", "loads_failed", "drains"}) {
        assertThat(count(server, none)).as(none).isZero();
        assertThat(server.get("/metrics").body()).contains("infinilora_lora_cache_" + none);
      }
      assertThat(gauge(server, "bytes", "device"))
          .isEqualTo(adapter(server, "a1").path("device_bytes").asLong());
      assertThat(gauge(server, "adapters", "device")).isEqualTo(1);
      assertThat(gauge(server, "adapters", "host")).isEqualTo(2);
      assertThat(gauge(server, "adapters", "disk")).isEqualTo(3);
      assertThat(gauge(server, "bytes", "host")).isPositive();
      assertThat(gauge(server, "budget_bytes", "host")).isEqualTo(8 << 20);
      // At the base a hit is what needs no answer of another event loop either.
      boolean here = mode == LoraMode.COUPLED;
      assertThat(admissions(server, "a0", here)).isEqualTo(1);
      assertThat(admissions(server, "a0", !here)).isZero();
      assertThat(admissions(server, "a1", false)).isEqualTo(1);
    }
  }

  private static double admissions(ServedNode server, String adapter, boolean resident) {
    return server.metric(
        "infinilora_adapter_admissions_total{adapter=\"%s\",resident=\"%s\"}"
            .formatted(adapter, resident));
  }
}
