package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class PeftAdapterTest {

  private static final String Q0 = "base_model.model.model.layers.0.self_attn.q_proj";
  private static final String V1 = "base_model.model.model.layers.1.self_attn.v_proj";

  private static ModelSpec llama;
  @TempDir Path folder;

  @BeforeAll
  static void readModel() {
    llama = spec("llama");
  }

  private static ModelSpec spec(String fixture) {
    try (Checkpoint checkpoint = Checkpoints.open(TinyModel.FIXTURES.resolve(fixture))) {
      return checkpoint.spec();
    }
  }

  private static PeftAdapter open(String fixture, String adapter) {
    Path directory = TinyModel.FIXTURES.resolve(fixture).resolve("adapters").resolve(adapter);
    return PeftAdapter.open(directory, spec(fixture));
  }

  private Path config() {
    return folder.resolve("adapter_config.json");
  }

  private Path weights() {
    return folder.resolve("adapter_model.safetensors");
  }

  private void assertFault(String... parts) {
    Faults.assertFault(ErrorCode.BAD_ADAPTER, () -> PeftAdapter.open(folder, llama).close(), parts);
  }

  @Test
  void readsOneRankForAttention() {
    try (PeftAdapter adapter = open("llama", "a0")) {
      assertThat(adapter.modules()).hasSize(8);
      assertThat(adapter.modules().getFirst()).isEqualTo(new AdaptedModule(0, LoraTarget.Q));
      LoraFactors k = adapter.factors(1, LoraTarget.K).orElseThrow();
      assertThat(k.a().tensor().shape()).containsExactly(4, 64);
      assertThat(k.b().tensor().shape()).containsExactly(32, 4);
      assertThat(k.scale()).isEqualTo(2f);
      assertThat(adapter.factors(0, LoraTarget.UP)).isEmpty();
      assertThat(adapter.maxRank()).isEqualTo(4);
      assertThat(adapter.bytes()).isEqualTo(16352);
    }
  }

  @Test
  void readsEveryProjection() {
    try (PeftAdapter adapter = open("llama", "a1")) {
      assertThat(adapter.modules()).hasSize(14);
      assertThat(adapter.factors(1, LoraTarget.DOWN).orElseThrow().a().tensor().shape())
          .containsExactly(8, 128);
    }
  }

  @Test
  void patternsOverrideRankAndAlphaOfTheirModules() {
    try (PeftAdapter adapter = open("llama", "a2")) {
      LoraFactors q0 = adapter.factors(0, LoraTarget.Q).orElseThrow();
      assertThat(q0.a().rows()).isEqualTo(16);
      assertThat(q0.scale()).isEqualTo(4f); // 16 / sqrt(16)
      LoraFactors q1 = adapter.factors(1, LoraTarget.Q).orElseThrow();
      assertThat(q1.a().rows()).isEqualTo(8);
      assertThat(q1.scale()).isEqualTo((float) (24 / Math.sqrt(8)));
    }
    // qwen3: the rank of layer 0 and the alpha of layer 1 change, by regular expressions.
    try (PeftAdapter adapter = open("qwen3", "a2")) {
      assertThat(adapter.factors(0, LoraTarget.V).orElseThrow().scale())
          .isEqualTo((float) (16 / Math.sqrt(8)));
      assertThat(adapter.factors(1, LoraTarget.V).orElseThrow().scale()).isEqualTo(6f);
    }
  }

  @ParameterizedTest
  @CsvSource({"llama3_rope", "mistral", "qwen2", "qwen3"})
  void opensTheAdaptersOfEveryDenseFixture(String fixture) {
    for (String name : new String[] {"a0", "a1", "a2"}) {
      try (PeftAdapter adapter = open(fixture, name)) {
        assertThat(adapter.modules()).isNotEmpty();
      }
    }
  }

  @Test
  void theFirstMatchingPatternWins() {
    TinyModel.copyAdapter("llama", "a0", folder);
    TinyModel.set(
        config(),
        "alpha_pattern",
        "{\"q_proj\": 4, \"layers.0.self_attn.q_proj\": 40, \"_proj\": 80}");
    try (PeftAdapter adapter = PeftAdapter.open(folder, llama)) {
      assertThat(adapter.factors(0, LoraTarget.Q).orElseThrow().scale()).isEqualTo(1f);
      // "_proj" begins within a part of the name, so it matches nothing.
      assertThat(adapter.factors(0, LoraTarget.K).orElseThrow().scale()).isEqualTo(2f);
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "\".*self_attn\\\\.[qkvo]_proj\"",
        "\"all-linear\"",
        "[\"self_attn.q_proj\", \"k_proj\", \"v_proj\", \"o_proj\", \"lm_head\"]"
      })
  void targetsMayBeAnExpressionOrAList(String targets) {
    TinyModel.copyAdapter("llama", "a0", folder);
    TinyModel.set(config(), "target_modules", targets);
    try (PeftAdapter adapter = PeftAdapter.open(folder, llama)) {
      assertThat(adapter.modules()).hasSize(8);
    }
  }

  @Test
  void theDigestFollowsTheContentNotTheFormatting() throws IOException {
    String original;
    TinyModel.copyAdapter("llama", "a0", folder);
    try (PeftAdapter adapter = PeftAdapter.open(folder, llama)) {
      original = adapter.id("x").digest();
      assertThat(original).matches("[0-9a-f]{64}");
      assertThat(adapter.id("x").name()).isEqualTo("x");
    }
    TinyModel.edit(config(), tree -> tree.set("alpha_pattern", tree.remove("alpha_pattern")));
    try (PeftAdapter adapter = PeftAdapter.open(folder, llama)) {
      assertThat(adapter.id("x").digest()).isEqualTo(original);
    }
    TinyModel.set(config(), "lora_alpha", "9");
    try (PeftAdapter adapter = PeftAdapter.open(folder, llama)) {
      assertThat(adapter.id("x").digest()).isNotEqualTo(original);
    }
    TinyModel.copyAdapter("llama", "a0", folder);
    byte[] bytes = Files.readAllBytes(weights());
    bytes[bytes.length - 4] ^= 1;
    Files.write(weights(), bytes);
    try (PeftAdapter adapter = PeftAdapter.open(folder, llama)) {
      assertThat(adapter.id("x").digest()).isNotEqualTo(original);
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "use_dora                | true",
        "modules_to_save         | [\"lm_head\"]",
        "bias                    | \"lora_only\"",
        "peft_type               | \"IA3\"",
        "lora_bias               | true",
        "layer_replication       | [[0, 1]]",
        "fan_in_fan_out          | true",
        "trainable_token_indices | [1]",
        "target_parameters       | [\"mlp.experts.w1\"]",
        "alora_invocation_tokens | [3, 4]",
        "use_qalora              | true",
        "use_bdlora              | {\"nblocks\": 2}",
        "arrow_config            | {\"top_k\": 2}",
        "kasa_config             | {\"beta\": 1}",
        "monteclora_config       | {\"n\": 1}",
        "init_lora_weights       | \"pissa_niter_4\"",
        "init_lora_weights       | \"olora\"",
        "target_modules          | []",
        "target_modules          | \"(\"",
        "rank_pattern            | {\"(q\": 4}",
        "rank_pattern            | {\"q)(k\": 4}",
        "rank_pattern            | {\"q_proj\": 4.5}",
        "rank_pattern            | {\"q_proj\": \"4\"}",
        "rank_pattern            | [4]",
        "alpha_pattern           | {\"(.*.*.*.*.*.*.*.*.*.*)*x\": 4}",
        "r                       | 0",
        "r                       | -4",
        "r                       | 513",
        "r                       | 1e300",
        "r                       | null",
        "lora_alpha              | 1e300",
        "lora_alpha              | \"8\"",
        "use_rslora              | \"yes\""
      })
  void refusesSettingsByName(String key, String value) {
    TinyModel.copyAdapter("llama", "a0", folder);
    TinyModel.set(config(), key, value);
    assertFault("adapter_config.json", key);
  }

  @Test
  void passesOverUnknownSettings() {
    TinyModel.copyAdapter("llama", "a0", folder);
    TinyModel.set(config(), "something_new", "{\"a\": [1]}");
    TinyModel.set(config(), "init_lora_weights", "\"gaussian\"");
    PeftAdapter.open(folder, llama).close();
  }

  /** An adapter of rank 2 on one projection of each layer, sound as it stands. */
  private SafetensorsBuilder sound() throws IOException {
    Files.writeString(
        config(),
        "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":[\"q_proj\",\"v_proj\",\"embed_tokens\"]}");
    return new SafetensorsBuilder()
        .filled(Q0 + ".lora_A.weight", 1, 2, 64)
        .filled(Q0 + ".lora_B.weight", 1, 64, 2)
        .filled(V1 + ".lora_A.weight", 1, 2, 64)
        .filled(V1 + ".lora_B.weight", 1, 32, 2);
  }

  private void assertTensorFault(SafetensorsBuilder builder, String... parts) {
    builder.write(weights());
    assertFault(parts);
    assertFault("adapter_model.safetensors");
  }

  @Test
  void refusesTensorsThatDoNotFit() throws IOException {
    sound().write(weights());
    PeftAdapter.open(folder, llama).close();

    String stray = "base_model.model.model.layers.0.self_attn.z_proj.lora_A.weight";
    assertTensorFault(sound().filled(stray, 1, 2, 64), "z_proj", "matches no module");
    assertTensorFault(
        sound().filled("model.layers.0.mlp.up_proj.lora_A.weight", 1, 2, 64), "base_model.model.");
    assertTensorFault(
        sound().filled("base_model.model.lm_head.lora_A.weight", 1, 2, 64), "lm_head", "no module");
    assertTensorFault(
        sound().filled("base_model.model.lm_head.weight", 1, 2, 64), "neither a lora_A");
    assertTensorFault(
        sound().filled("base_model.model.model.embed_tokens.lora_embedding_A", 1, 2, 64),
        "lora_embedding_A",
        "embedding");
    assertTensorFault(
        sound().filled(Q0 + ".lora_magnitude_vector.weight", 1, 64), "lora_magnitude_vector");
    assertTensorFault(
        sound().filled(Q0.replace(".0.", ".2.") + ".lora_A.weight", 1, 2, 64),
        "layer 2",
        "2 layers");
    assertTensorFault(
        sound().filled(Q0.replace(".0.", ".00.") + ".lora_A.weight", 1, 2, 64), "no module");
    assertTensorFault(
        sound().filled(Q0.replace(".0.", ".99999999999.") + ".lora_A.weight", 1, 2, 64),
        "no module");
    assertTensorFault(
        sound().filled(Q0.replace("q_", "k_") + ".lora_A.weight", 1, 2, 64), "target_modules");
    assertTensorFault(sound().remove(V1 + ".lora_A.weight"), V1 + ".lora_B.weight", "partner");
    assertTensorFault(sound().remove(V1 + ".lora_B.weight"), V1 + ".lora_A.weight", "partner");
    assertTensorFault(new SafetensorsBuilder(), "no LoRA tensors");
  }

  @Test
  void refusesWrongShapesTypesAndValues() throws IOException {
    String a = Q0 + ".lora_A.weight";
    sound();
    assertTensorFault(sound().filled(a, 1, 3, 64), a, "[3, 64]", "[2, 64]");
    assertTensorFault(sound().filled(a, 1, 2, 63), a, "[2, 63]");
    assertTensorFault(sound().filled(a, 1, 128), a, "[128]");
    assertTensorFault(sound().filled(V1 + ".lora_B.weight", 1, 64, 2), V1, "[32, 2]");
    assertTensorFault(sound().raw(a, "I64", new byte[1024], 2, 64), a, "I64");
    assertTensorFault(sound().filled(a, Float.NaN, 2, 64), a, "not finite");
    assertTensorFault(sound().filled(a, Float.NEGATIVE_INFINITY, 2, 64), a, "not finite");
    byte[] half = new byte[256];
    half[131] = 0x7c; // infinity in F16
    assertTensorFault(sound().raw(a, "F16", half, 2, 64), a, "not finite at [1, 1]");
    half[131] = 0x7f;
    half[130] = (byte) 0x80; // infinity in BF16
    assertTensorFault(sound().raw(a, "BF16", half, 2, 64), a, "not finite at [1, 1]");
  }

  @Test
  void reopeningReadsNoValues() throws IOException {
    String a = Q0 + ".lora_A.weight";
    sound().filled(a, Float.NaN, 2, 64).write(weights());
    assertFault(a, "not finite");
    try (PeftAdapter adapter = PeftAdapter.reopen(folder, llama)) {
      LoraFactors q0 = adapter.factors(0, LoraTarget.Q).orElseThrow();
      assertThat(q0.a().tensor().name()).isEqualTo(a);
      assertThat(q0.a().rows()).isEqualTo(2);
      assertThat(adapter.bytes()).isEqualTo(Files.size(PeftAdapter.weightsFile(folder)));
      assertThatThrownBy(() -> adapter.id("again"))
          .isInstanceOf(IllegalStateException.class)
          .hasMessageContaining("again was reopened");
    }
    sound().filled(a, 1, 3, 64).write(weights());
    Faults.assertFault(
        ErrorCode.BAD_ADAPTER, () -> PeftAdapter.reopen(folder, llama).close(), a, "[3, 64]");
    sound().write(weights());
    Files.writeString(config(), "{");
    Faults.assertFault(
        ErrorCode.BAD_ADAPTER, () -> PeftAdapter.reopen(folder, llama).close(), "not valid JSON");
  }

  @Test
  void refusesMissingAndForeignFiles() throws IOException {
    assertFault("adapter_config.json", "no such file");
    TinyModel.copyAdapter("llama", "a0", folder);
    Files.delete(weights());
    assertFault("adapter_model.safetensors", "no such file");
    Files.writeString(folder.resolve("adapter_model.bin"), "x");
    assertFault("adapter_model.bin", "pickled");
    Files.delete(config());
    Files.writeString(config(), "{\"peft_type\":");
    assertFault("adapter_config.json", "not valid JSON");
  }

  @Test
  void refusesAdaptersForAnotherModel() {
    TinyModel.copyAdapter("qwen2", "a0", folder);
    assertFault("adapter_model.safetensors", "tensor", "[4, 48]", "[4, 64]");
  }
}
