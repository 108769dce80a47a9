package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Configurations in all their spellings, tokenizer files, and sharded weights. */
class SafetensorsCheckpointTest {

  @TempDir Path folder;

  private ModelSpec spec(String fixture, Consumer<ObjectNode> change) {
    TinyModel.copy(fixture, folder);
    TinyModel.edit(folder.resolve("config.json"), change);
    try (Checkpoint checkpoint = Checkpoints.open(folder)) {
      return checkpoint.spec();
    }
  }

  private void assertFault(String fixture, Consumer<ObjectNode> change, String... parts) {
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> spec(fixture, change), parts);
  }

  private static void rope(ObjectNode config, String parameters) {
    config.remove("rope_theta");
    config.remove("rope_scaling");
    config.set("rope_parameters", TinyModel.json(parameters));
  }

  @Test
  void bothSpellingsOfTheRotationMeanTheSame() {
    ModelSpec older = spec("llama3_rope", c -> {});
    ModelSpec newer =
        spec(
            "llama3_rope",
            c ->
                rope(
                    c,
                    """
                    {"rope_theta": 10000.0, "rope_type": "llama3", "factor": 8.0,
                     "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 64}
                    """));
    assertThat(newer).isEqualTo(older);
    ModelSpec oldest =
        spec(
            "llama",
            c -> c.set("rope_scaling", TinyModel.json("{\"type\":\"linear\",\"factor\":2}")));
    assertThat(oldest.rope()).isEqualTo(new RopeSpec(10000, new RopeSpec.Linear(2)));
  }

  @Test
  void readsYarn() {
    ModelSpec plain =
        spec(
            "llama",
            c ->
                rope(
                    c,
                    "{\"rope_theta\":500,\"rope_type\":\"yarn\",\"factor\":4,\"original_max_position_embeddings\":64}"));
    assertThat(plain.rope())
        .isEqualTo(new RopeSpec(500, new RopeSpec.Yarn(4, 32, 1, 64, 0.1 * Math.log(4) + 1, true)));
    ModelSpec full =
        spec(
            "llama",
            c ->
                rope(
                    c,
                    """
                    {"rope_theta": 500, "rope_type": "yarn", "factor": 4, "beta_fast": 16,
                     "beta_slow": 2, "attention_factor": 1.5, "truncate": false}
                    """));
    assertThat(full.rope().scaling()).isEqualTo(new RopeSpec.Yarn(4, 16, 2, 256, 1.5, false));
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        // use_sliding_window | sliding_window | max_window_layers | layer_types | windows
        "false | 16   | 0 | null                                        | 0,0",
        "true  | 16   | 0 | null                                        | 16,16",
        "true  | 16   | 1 | null                                        | 0,16",
        "true  | 16   | 2 | null                                        | 0,0",
        "true  | null | 0 | null                                        | 0,0",
        "true  | 16   | 2 | [\"sliding_attention\", \"full_attention\"] | 16,0",
        "false | 16   | 0 | [\"full_attention\", \"full_attention\"]    | 0,0"
      })
  void qwenSlidesWhereItIsTold(
      String use, String window, String fullLayers, String types, String expected) {
    ModelSpec spec =
        spec(
            "qwen2",
            c -> {
              c.set("use_sliding_window", TinyModel.json(use));
              c.set("sliding_window", TinyModel.json(window));
              c.set("max_window_layers", TinyModel.json(fullLayers));
              c.set("layer_types", TinyModel.json(types));
            });
    assertThat(spec.attention().windows()).hasToString("[" + expected.replace(",", ", ") + "]");
  }

  @Test
  void mistralMayHaveNoWindow() {
    assertThat(spec("mistral", c -> c.putNull("sliding_window")).attention().windows())
        .containsExactly(0, 0);
  }

  @Test
  void joinsTheEndTokensOfBothConfigurations() {
    TinyModel.copy("llama", folder);
    TinyModel.set(folder.resolve("config.json"), "eos_token_id", "[2, 5]");
    TinyModel.set(folder.resolve("generation_config.json"), "eos_token_id", "[7, 2]");
    TinyModel.set(folder.resolve("config.json"), "bos_token_id", "null");
    try (Checkpoint checkpoint = Checkpoints.open(folder)) {
      assertThat(checkpoint.spec().eosTokens()).containsExactly(7, 2, 5);
      assertThat(checkpoint.spec().bosToken()).isEqualTo(-1);
    }
  }

  @Test
  void attentionBiasNeedsItsTensors() {
    assertFault(
        "llama", c -> c.put("attention_bias", true), "model.layers.0.self_attn.q_proj.bias");
  }

  @Test
  void refusesWhatItCannotCompute() {
    assertFault("llama", c -> c.put("mlp_bias", true), "config.json", "mlp_bias");
    assertFault("llama", c -> c.put("hidden_act", "gelu"), "hidden_act", "gelu");
    Faults.assertFault(
        ErrorCode.UNSUPPORTED_MODEL,
        () -> spec("llama", c -> c.put("model_type", "falcon")),
        "falcon",
        "llama, mistral, qwen2, qwen3");
    assertFault("llama", c -> c.remove("model_type"), "model_type is missing");
    assertFault("llama", c -> rope(c, "{\"rope_type\":\"longrope\"}"), "longrope");
    assertFault("llama", c -> rope(c, "{\"rope_type\":\"linear\"}"), "rope_parameters.factor");
    assertFault("llama", c -> rope(c, "{\"partial_rotary_factor\":0.5}"), "partial_rotary_factor");
    assertFault("llama", c -> c.putObject("quantization_config").put("bits", 4), "quantization");
    assertFault("llama", c -> c.put("num_hidden_layers", "two"), "num_hidden_layers", "two");
    assertFault("llama", c -> c.put("num_hidden_layers", 3), "model.layers.2.", "missing");
    assertFault("llama", c -> c.put("num_hidden_layers", 1), "model.layers.1.", "no parameter");
    assertFault("llama", c -> c.put("num_hidden_layers", 2_000_000_000), "num_hidden_layers");
    assertFault("llama", c -> c.put("num_key_value_heads", 3), "num_key_value_heads");
    assertFault("llama", c -> c.put("num_attention_heads", 0), "num_attention_heads");
    assertFault("llama", c -> c.put("head_dim", 15), "head_dim", "even");
    assertFault("llama", c -> c.put("vocab_size", 500), "embed_tokens", "[512, 64]", "[500, 64]");
    assertFault("llama", c -> c.put("rms_norm_eps", -1), "rms_norm_eps");
    assertFault("llama", c -> c.put("tie_word_embeddings", false), "lm_head.weight is missing");
    assertFault("qwen3", c -> c.put("model_type", "qwen2"), "q_proj.bias is missing");
    assertFault("qwen2", c -> c.put("model_type", "llama"), "bias", "no parameter");
  }

  @Test
  void refusesFoldersWithoutAModel() throws IOException {
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> Checkpoints.open(folder), "config.json");
    Path absent = folder.resolve("absent.gguf");
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> Checkpoints.open(absent), "absent.gguf");
    Files.writeString(folder.resolve("config.json"), "{}");
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> Checkpoints.open(folder), "no safetensors");
  }

  @Test
  void readsTokenizerFiles() throws IOException {
    TinyModel.copy("llama", folder);
    Files.writeString(
        folder.resolve("tokenizer_config.json"),
        """
        {"bos_token": {"content": "<b>", "special": true}, "eos_token": "<e>",
         "chat_template": "from config"}
        """);
    Files.writeString(
        folder.resolve("tokenizer.json"),
        """
        {"model": {"vocab": {"a": 0}}, "post_processor": {"type": "Sequence", "processors": [
          {"type": "ByteLevel"},
          {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<b>", "type_id": 0}},
            {"Sequence": {"id": "A", "type_id": 0}}]}]}}
        """);
    try (Checkpoint checkpoint = Checkpoints.open(folder)) {
      assertThat(checkpoint.text().tokenizerJson()).contains(folder.resolve("tokenizer.json"));
      assertThat(checkpoint.text().bosToken()).isEqualTo("<b>");
      assertThat(checkpoint.text().eosToken()).isEqualTo("<e>");
      assertThat(checkpoint.text().addBos()).isTrue();
      assertThat(checkpoint.text().chatTemplate()).contains("from config");
    }
    Files.writeString(folder.resolve("chat_template.jinja"), "from file");
    TinyModel.set(folder.resolve("tokenizer_config.json"), "add_bos_token", "false");
    try (Checkpoint checkpoint = Checkpoints.open(folder)) {
      assertThat(checkpoint.text().addBos()).isFalse();
      assertThat(checkpoint.text().chatTemplate()).contains("from file");
    }
    Files.delete(folder.resolve("chat_template.jinja"));
    TinyModel.set(
        folder.resolve("tokenizer_config.json"),
        "chat_template",
        "[{\"name\":\"tool\",\"template\":\"t\"},{\"name\":\"default\",\"template\":\"d\"}]");
    try (Checkpoint checkpoint = Checkpoints.open(folder)) {
      assertThat(checkpoint.text().chatTemplate()).contains("d");
    }
  }

  /** Splits the llama fixture over two shards. */
  private void shard() throws IOException {
    TinyModel.copy("llama", folder);
    Path whole = folder.resolve("model.safetensors");
    SafetensorsBuilder[] shards = {new SafetensorsBuilder(), new SafetensorsBuilder()};
    Map<String, String> map = new TreeMap<>();
    try (Arena arena = Arena.ofConfined()) {
      SafetensorsFile file = SafetensorsFile.open(whole, ErrorCode.BAD_MODEL_FILE, arena);
      for (String name : file.names()) {
        TensorView view = file.view(name);
        int to = name.contains("layers.1") ? 1 : 0;
        shards[to].raw(name, "BF16", view.data().toArray(ValueLayout.JAVA_BYTE), view.shape());
        map.put(name, "part-" + to + ".safetensors");
      }
    }
    Files.delete(whole);
    shards[0].write(folder.resolve("part-0.safetensors"));
    shards[1].write(folder.resolve("part-1.safetensors"));
    new ObjectMapper()
        .writeValue(
            folder.resolve("model.safetensors.index.json").toFile(), Map.of("weight_map", map));
  }

  private void assertShardFault(String... parts) {
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> Checkpoints.open(folder), parts);
  }

  private void place(String tensor, String shard) {
    TinyModel.edit(
        folder.resolve("model.safetensors.index.json"),
        index -> ((ObjectNode) index.get("weight_map")).put(tensor, shard));
  }

  @Test
  void joinsShards() throws IOException {
    shard();
    try (Checkpoint joined = Checkpoints.open(folder);
        Checkpoint whole = Checkpoints.open(TinyModel.FIXTURES.resolve("llama"))) {
      assertThat(joined.spec()).isEqualTo(whole.spec());
      assertThat(joined.describe()).contains("2 file(s)");
      for (int layer = 0; layer < 2; layer++) {
        TensorView a = joined.matrix(Param.UP, layer).tensor();
        TensorView b = whole.matrix(Param.UP, layer).tensor();
        assertThat(a.data().mismatch(b.data())).isEqualTo(-1);
      }
    }
  }

  @Test
  void refusesShardsThatDoNotFitTheIndex() throws IOException {
    shard();
    place("ghost", "part-1.safetensors");
    assertShardFault("part-1.safetensors", "tensor ghost is missing", "index.json");
    shard();
    place("model.norm.weight", "part-2.safetensors");
    assertShardFault("part-2.safetensors", "no such file");
    shard();
    place("model.norm.weight", "../part-0.safetensors");
    assertShardFault("model.norm.weight", "not a file name");
    shard();
    Files.copy(folder.resolve("part-0.safetensors"), folder.resolve("part-9.safetensors"));
    place("model.norm.weight", "part-9.safetensors");
    assertShardFault("is also in");
    shard();
    Files.writeString(folder.resolve("model.safetensors.index.json"), "{}");
    assertShardFault("weight_map is missing");
  }
}
