package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.cuda.Gpu;
import io.infinilora.core.WeightSource;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.StringJoiner;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Whether nodes keep to their plans of a GPU's memory. */
@Tag("gpu")
class MemoryUseTest {
  private static final String FIXTURES = "src/test/resources/fixtures/";

  private static final int HIDDEN = 1024;
  private static final int EXPERTS = 32;
  private static final int EXPERT_WIDTH = 256;

  private static final String MIXTURE =
      """
      {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "vocab_size": 1024,
       "hidden_size": %d, "num_hidden_layers": 1, "num_attention_heads": 8, "head_dim": 128,
       "num_key_value_heads": 2, "num_experts": %d, "num_experts_per_tok": 8, "hidden_act": "silu",
       "moe_intermediate_size": %d, "intermediate_size": 256, "decoder_sparse_step": 1,
       "mlp_only_layers": [], "norm_topk_prob": true, "max_position_embeddings": 4096,
       "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "tie_word_embeddings": false,
       "attention_bias": false, "torch_dtype": "bfloat16", "eos_token_id": 2}
      """
          .formatted(HIDDEN, EXPERTS, EXPERT_WIDTH);

  private static final String LONG =
      """
      {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512,
       "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": 1, "hidden_act": "silu",
       "num_attention_heads": 32, "head_dim": 128, "num_key_value_heads": 4,
       "max_position_embeddings": 262144, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
       "tie_word_embeddings": true, "torch_dtype": "bfloat16", "eos_token_id": 2}
      """;

  /** Ranks that the plan expects. */
  private static final int RANK = 64;

  /** 0.01 in bf16. */
  private static final short VALUE = 0x3C24;

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
    check(MemoryUse.of(settings));
  }

  /** Of many rows, whose terms take more than anything else. */
  @ParameterizedTest
  @ValueSource(strings = {"none", "coupled", "disaggregated"})
  void mixturesKeepToTheirPlan(String mode, @TempDir Path directory) throws IOException {
    Path config = Files.writeString(directory.resolve("config.json"), MIXTURE);
    writeExpertAdapter(directory.resolve("adapters/a"));
    check(
        MemoryUse.of(
            Map.of(
                "model", WeightSource.Random.PREFIX + config,
                "adapters", directory.resolve("adapters").toString(),
                "loraMode", mode,
                "lora.deviceMemory", "64MiB",
                "device.memory", "3GiB",
                "engine.kvMemory", "64MiB",
                "engine.prefillChunk", "1024",
                "engine.maxBatchedTokens", "8192")));
  }

  /**
   * Rows of long sequences are shared by blocks that put their parts down; with twice as long ones
   * the tables of KV blocks outgrow their staging.
   */
  @ParameterizedTest
  @CsvSource({"131072, 320MiB", "262144, all that is left"})
  void longContextsKeepToTheirPlan(String context, String keysAndValues, @TempDir Path directory)
      throws IOException {
    Path config = Files.writeString(directory.resolve("config.json"), LONG);
    Map<String, String> settings =
        new HashMap<>(
            Map.of(
                "model",
                WeightSource.Random.PREFIX + config,
                "loraMode",
                "none",
                "device.memory",
                "2GiB",
                "engine.contextLength",
                context,
                "engine.prefillChunk",
                "2048",
                "engine.maxBatchedTokens",
                "2048"));
    if (keysAndValues.endsWith("MiB")) {
      settings.put("engine.kvMemory", keysAndValues);
    }
    check(MemoryUse.of(settings));
  }

  private static void check(MemoryUse use) {
    assertThat(use.workspaceAsPlanned()).as(use.toString()).isTrue();
    use.used()
        .forEach(
            (purpose, bytes) ->
                assertThat(bytes)
                    .as(purpose)
                    .isLessThanOrEqualTo((long) (1.01 * use.planned().get(purpose))));
  }

  /** A PEFT adapter of all experts of the mixture, the same for each. */
  private static void writeExpertAdapter(Path directory) throws IOException {
    Files.createDirectories(directory);
    Files.writeString(
        directory.resolve("adapter_config.json"),
        """
        {"peft_type": "LORA", "r": %d, "lora_alpha": 1, "bias": "none",
         "target_modules": ["gate_proj", "up_proj", "down_proj"]}
        """
            .formatted(RANK));
    StringJoiner tensors = new StringJoiner(",", "{", "}");
    int end = 0;
    for (int expert = 0; expert < EXPERTS; expert++) {
      for (String target : List.of("gate_proj", "up_proj", "down_proj")) {
        boolean down = target.equals("down_proj");
        int[][] shapes = {
          {RANK, down ? EXPERT_WIDTH : HIDDEN}, {down ? HIDDEN : EXPERT_WIDTH, RANK}
        };
        for (int i = 0; i < 2; i++) {
          int begin = end;
          end += Short.BYTES * shapes[i][0] * shapes[i][1];
          tensors.add(
              """
              "base_model.model.model.layers.0.mlp.experts.%d.%s.lora_%s.weight":
              {"dtype": "BF16", "shape": [%d, %d], "data_offsets": [%d, %d]}"""
                  .formatted(
                      expert, target, i == 0 ? "A" : "B", shapes[i][0], shapes[i][1], begin, end));
        }
      }
    }
    byte[] header = tensors.toString().getBytes(StandardCharsets.UTF_8);
    ByteBuffer file = ByteBuffer.allocate(8 + header.length + end).order(ByteOrder.LITTLE_ENDIAN);
    file.putLong(header.length).put(header);
    while (file.hasRemaining()) {
      file.putShort(VALUE);
    }
    Files.write(directory.resolve("adapter_model.safetensors"), file.array());
  }
}
