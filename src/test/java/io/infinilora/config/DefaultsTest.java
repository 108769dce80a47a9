package io.infinilora.config;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.LoraMode;
import java.time.Duration;
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
                LoraMode.DISAGGREGATED,
                ServerConfig.DEFAULTS,
                EngineConfig.DEFAULTS));
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
  void engine() {
    assertThat(EngineConfig.DEFAULTS)
        .isEqualTo(
            new EngineConfig(
                Optional.empty(),
                Optional.empty(),
                Optional.empty(),
                new ByteSize(512 << 20),
                32,
                256,
                512,
                256,
                true,
                Duration.ofSeconds(30)));
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
