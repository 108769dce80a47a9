package io.infinilora.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import java.net.URI;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** Holds the documented defaults, so that changing one is a decision and not an accident. */
class DefaultsTest {

  @Test
  void node() {
    assertThat(InfiniLoraConfig.DEFAULTS)
        .isEqualTo(
            new InfiniLoraConfig(
                Optional.empty(),
                Optional.empty(),
                Map.of(),
                LoraMode.DISAGGREGATED,
                ServerConfig.DEFAULTS,
                EngineConfig.DEFAULTS,
                LoraConfig.DEFAULTS,
                HubConfig.DEFAULTS));
  }

  @Test
  void lora() {
    assertThat(LoraConfig.DEFAULTS)
        .isEqualTo(
            new LoraConfig(
                ByteSize.mebibytes(1024),
                ByteSize.mebibytes(1024),
                Eviction.LRU,
                new LoraGrid(1, 1),
                Duration.ofSeconds(30),
                Duration.ofSeconds(30),
                Optional.empty(),
                false,
                Optional.empty()));
  }

  @Test
  void hub() {
    assertThat(HubConfig.DEFAULTS)
        .isEqualTo(
            new HubConfig(
                URI.create("https://huggingface.co"), Optional.empty(), false, Optional.empty()));
    assertThat(HubConfig.DEFAULTS.cacheOrDefault())
        .isEqualTo(Path.of(System.getProperty("user.home"), ".cache/huggingface/hub"));
  }

  @Test
  void server() {
    assertThat(ServerConfig.DEFAULTS)
        .isEqualTo(
            new ServerConfig(
                "127.0.0.1",
                8080,
                new ByteSize(4 << 20),
                Duration.ofSeconds(5),
                Duration.ofSeconds(30)));
  }

  @Test
  void device() {
    assertThat(DeviceConfig.DEFAULTS)
        .isEqualTo(new DeviceConfig(DeviceKind.CPU, 0, Optional.empty()));
  }

  @Test
  void engine() {
    assertThat(EngineConfig.DEFAULTS)
        .isEqualTo(
            new EngineConfig(
                Optional.empty(),
                Optional.empty(),
                Optional.empty(),
                Optional.empty(),
                32,
                256,
                512,
                256,
                true,
                Policy.ADAPTER_FAIR,
                Duration.ofSeconds(30)));
  }

  @Test
  void aSchedulerIsFairUnlessToldOtherwise() {
    assertThat(new SchedulerConfig(4, 1, 4, 1, 1, 16, 16, true).policy())
        .isEqualTo(Policy.ADAPTER_FAIR);
  }

  @Test
  void schedulerLimitsAreChecked() {
    assertThat(SchedulerConfig.DEFAULT_BLOCK_SIZE).isEqualTo(16);
    assertThatThrownBy(() -> new SchedulerConfig(4, 1, 3, 1, 1, 16, 16, true))
        .hasMessageStartingWith("maxBatchedTokens must be at least maxRunning (4)");
    assertThatThrownBy(() -> new SchedulerConfig(4, 1, 4, 1, 0, 16, 16, true))
        .hasMessage("kvBlocks must be at least 1, not 0");
  }
}
