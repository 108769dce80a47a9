package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.cuda.Gpu;
import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Whether nodes keep to their plans of a GPU's memory. */
@Tag("gpu")
class MemoryUseTest {
  private static final String FIXTURES = "src/test/resources/fixtures/";

  @BeforeAll
  static void findGpu() {
    Gpu.require();
  }

  @ParameterizedTest
  @CsvSource({
    "qwen3_moe, none, 1x1, 512, 64MiB",
    "qwen3_moe, coupled, 1x1, 4096, 64MiB",
    "qwen3_moe, disaggregated, 2x1, 512, 64MiB",
    "llama, disaggregated, 1x2, 512, 64MiB",
    "llama, disaggregated, 1x1, 2048, all that is left",
    "qwen3_moe, disaggregated, 1x1, 2048, all that is left"
  })
  void nothingTakesMoreThanWasPlannedNorMuchLess(
      String model, String mode, String shards, String rows, String keysAndValues) {
    Map<String, String> settings =
        new HashMap<>(
            Map.of(
                "model",
                FIXTURES + model,
                "adapters",
                FIXTURES + model + "/adapters",
                "loraMode",
                mode,
                "lora.shards",
                shards,
                "lora.deviceMemory",
                "64MiB",
                "device.memory",
                "2GiB",
                "engine.maxBatchedTokens",
                rows));
    if (keysAndValues.endsWith("MiB")) {
      settings.put("engine.kvMemory", keysAndValues);
    }
    MemoryUse use = MemoryUse.of(settings);
    assertThat(use.workspaceAsPlanned()).as(use.toString()).isTrue();
    use.used()
        .forEach(
            (purpose, bytes) ->
                assertThat(bytes)
                    .as(purpose)
                    .isLessThanOrEqualTo((long) (1.01 * use.planned().get(purpose))));
  }
}
