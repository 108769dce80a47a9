package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Adapters of models with experts, in every form in which PEFT saves them. */
class MoePeftAdapterTest {

  private static final Path GENERATED = Path.of("src/test/resources/io/infinilora/weights/peft");
  private static final String EXPERTS0 = "base_model.model.model.layers.0.mlp.experts";

  @TempDir Path folder;

  private static PeftAdapter fixture(String architecture, String adapter) {
    Path directory = TinyModel.FIXTURES.resolve(architecture).resolve("adapters").resolve(adapter);
    return PeftAdapter.open(directory, MoeSpecs.fixture(architecture));
  }

  private Path config() {
    return folder.resolve("adapter_config.json");
  }

  private Path weights() {
    return folder.resolve("adapter_model.safetensors");
  }

  private void copyGenerated(String name) {
    copy(GENERATED.resolve(name));
  }

  private void copy(Path from) {
    try {
      for (Path target : List.of(config(), weights())) {
        Files.write(target, Files.readAllBytes(from.resolve(target.getFileName())));
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  private void assertFault(ModelSpec spec, String... parts) {
    Faults.assertFault(ErrorCode.BAD_ADAPTER, () -> PeftAdapter.open(folder, spec).close(), parts);
  }

  private static float element(WeightMatrix matrix, int row, int col) {
    long at = matrix.element(row) + col * matrix.colStride();
    return matrix.tensor().data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, at * Float.BYTES);
  }

  private static float delta(LoraFactors pair, int out, int in) {
    double sum = 0;
    for (int r = 0; r < pair.a().rows(); r++) {
      sum += (double) element(pair.b(), out, r) * element(pair.a(), r, in);
    }
    return (float) (pair.scale() * sum);
  }

  /** The oracle is PEFT's own change of the weight, made together with the adapter. */
  @ParameterizedTest
  @CsvSource({
    "mixtral_fused, mixtral, 6, 24",
    "qwen3_moe_fused, qwen3_moe, 6, 24",
    "qwen3_moe_before_0_19, qwen3_moe, 6, 24",
    "gpt_oss_fused, gpt_oss, 6, 24",
    "gpt_oss_layer, gpt_oss, 16, 12",
    "gpt_oss_before_0_19, gpt_oss, 16, 8",
    "dbrx_flat, dbrx, 6, 24"
  })
  void changesTheWeightsAsPeftDoes(String name, String architecture, int inner, int modules) {
    Path directory = GENERATED.resolve(name);
    try (Arena arena = Arena.ofConfined();
        PeftAdapter adapter =
            PeftAdapter.open(directory, MoeSpecs.generated(architecture, inner))) {
      SafetensorsFile expected =
          SafetensorsFile.open(
              directory.resolve("delta.safetensors"), ErrorCode.BAD_ADAPTER, arena);
      assertThat(expected.names()).hasSize(modules);
      for (String key : expected.names()) {
        String[] parts = key.split("\\.");
        LoraTarget target = LoraTarget.valueOf(parts[2].toUpperCase(Locale.ROOT));
        LoraFactors pair =
            adapter
                .factors(Integer.parseInt(parts[0]), target, Integer.parseInt(parts[1]))
                .orElseThrow();
        assertSame(pair, expected.view(key));
      }
      assertThat(adapter.modules())
          .filteredOn(m -> m.expert() != AdaptedModule.DENSE)
          .hasSize(modules);
    }
  }

  private static void assertSame(LoraFactors pair, TensorView expected) {
    WeightMatrix matrix = WeightMatrix.of(expected);
    assertThat(new int[] {pair.b().rows(), pair.a().cols()})
        .as(expected.name())
        .containsExactly(matrix.rows(), matrix.cols());
    for (int out = 0; out < matrix.rows(); out++) {
      for (int in = 0; in < matrix.cols(); in++) {
        assertThat(delta(pair, out, in))
            .as("%s[%d, %d]", expected.name(), out, in)
            .isCloseTo(element(matrix, out, in), within(1e-5f));
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"mixtral, 4", "qwen3_moe, 32", "gpt_oss, 36", "dbrx, 16"})
  void opensTheAdaptersOfEveryFixture(String architecture, int a2) {
    try (PeftAdapter adapter = fixture(architecture, "a0")) {
      assertThat(adapter.modules()).hasSize(8);
      assertThat(adapter.modules()).allMatch(m -> m.expert() == AdaptedModule.DENSE);
      assertThat(adapter.maxRank()).isEqualTo(4);
    }
    try (PeftAdapter adapter = fixture(architecture, "a1")) {
      // The fixtures adapt each expert's gate, up and down beside q, k, v and o.
      int experts = MoeSpecs.fixture(architecture).mlp().moe().experts();
      assertThat(adapter.modules()).hasSize(2 * (4 + 3 * experts));
      assertThat(adapter.factors(1, LoraTarget.DOWN, experts - 1)).isPresent();
      assertThat(adapter.factors(1, LoraTarget.DOWN)).isEmpty();
      assertThat(adapter.maxRank()).isEqualTo(8);
    }
    try (PeftAdapter adapter = fixture(architecture, "a2")) {
      assertThat(adapter.modules()).hasSize(a2);
      assertThat(adapter.maxRank()).isEqualTo(16);
    }
  }

  @Test
  void namesOfExpertsFollowTheArchitecture() {
    try (PeftAdapter adapter = fixture("mixtral", "a1")) {
      LoraFactors down = adapter.factors(1, LoraTarget.DOWN, 7).orElseThrow();
      assertThat(down.a().tensor().name())
          .isEqualTo("base_model.model.model.layers.1.block_sparse_moe.experts.7.w2.lora_A.weight");
      assertThat(adapter.factors(0, LoraTarget.GATE, 2).orElseThrow().b().tensor().name())
          .endsWith("experts.2.w1.lora_B.weight");
      assertThat(adapter.factors(0, LoraTarget.UP, 2).orElseThrow().b().tensor().name())
          .endsWith("experts.2.w3.lora_B.weight");
    }
    try (PeftAdapter adapter = fixture("qwen3_moe", "a1")) {
      assertThat(adapter.factors(0, LoraTarget.UP, 15).orElseThrow().a().tensor().name())
          .isEqualTo("base_model.model.model.layers.0.mlp.experts.15.up_proj.lora_A.weight");
    }
  }

  @Test
  void queryKeyAndValueShareTheAOfTheirFusedProjection() {
    try (PeftAdapter adapter = fixture("dbrx", "a0")) {
      LoraFactors q = adapter.factors(1, LoraTarget.Q).orElseThrow();
      LoraFactors k = adapter.factors(1, LoraTarget.K).orElseThrow();
      LoraFactors v = adapter.factors(1, LoraTarget.V).orElseThrow();
      assertThat(q.a()).isEqualTo(k.a()).isEqualTo(v.a());
      assertThat(List.of(q.b().rows(), k.b().rows(), v.b().rows())).containsExactly(48, 24, 24);
      assertThat(List.of(q.b().offset(), k.b().offset(), v.b().offset()))
          .containsExactly(0L, 48L * 4, 72L * 4);
    }
  }

  @Test
  void patternsNameParametersLikeModules() {
    try (PeftAdapter adapter = fixture("gpt_oss", "a2")) {
      LoraFactors first = adapter.factors(0, LoraTarget.UP, 3).orElseThrow();
      assertThat(first.a().rows()).isEqualTo(16);
      assertThat(first.scale()).isEqualTo(4f); // 16 / sqrt(16)
      LoraFactors second = adapter.factors(1, LoraTarget.UP, 3).orElseThrow();
      assertThat(second.a().rows()).isEqualTo(8);
      assertThat(second.scale()).isEqualTo((float) (24 / Math.sqrt(8)));
      assertThat(adapter.factors(0, LoraTarget.DOWN, 3)).isEmpty();
    }
    try (PeftAdapter adapter = fixture("dbrx", "a2")) {
      LoraFactors second = adapter.factors(1, LoraTarget.DOWN, 0).orElseThrow();
      assertThat(second.a().rows()).isEqualTo(8);
      assertThat(second.scale()).isEqualTo((float) (24 / Math.sqrt(8)));
    }
  }

  @Test
  void ranksOfExpertsMayDiffer() throws IOException {
    ModelSpec spec = MoeSpecs.generated("qwen3_moe", 6);
    Files.writeString(
        config(),
        """
        {"peft_type": "LORA", "r": 2, "lora_alpha": 8, "use_rslora": true,
         "target_modules": "all-linear",
         "rank_pattern": {"layers.1.mlp.experts.3.up_proj": 4, "experts.3.*": 1}}""");
    String expert = "base_model.model.model.layers.%d.mlp.experts.%d.up_proj.lora_%s.weight";
    new SafetensorsBuilder()
        .filled(expert.formatted(0, 3, "A"), 1, 1, 16)
        .filled(expert.formatted(0, 3, "B"), 1, 6, 1)
        .filled(expert.formatted(1, 3, "A"), 1, 4, 16)
        .filled(expert.formatted(1, 3, "B"), 1, 6, 4)
        .filled(expert.formatted(1, 0, "A"), 1, 2, 16)
        .filled(expert.formatted(1, 0, "B"), 1, 6, 2)
        .write(weights());
    try (PeftAdapter adapter = PeftAdapter.open(folder, spec)) {
      assertThat(adapter.modules())
          .containsExactly(
              new AdaptedModule(0, LoraTarget.UP, 3),
              new AdaptedModule(1, LoraTarget.UP, 0),
              new AdaptedModule(1, LoraTarget.UP, 3));
      assertThat(adapter.factors(0, LoraTarget.UP, 3).orElseThrow().scale()).isEqualTo(8f);
      assertThat(adapter.factors(1, LoraTarget.UP, 3).orElseThrow().scale()).isEqualTo(4f);
    }
  }

  @Test
  void expertsOfGptOssMayBeModules() throws IOException {
    ModelSpec spec = MoeSpecs.generated("gpt_oss", 6);
    Files.writeString(
        config(),
        "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":1,\"target_modules\":\"all-linear\"}");
    new SafetensorsBuilder()
        .filled(EXPERTS0 + ".gate_up_projs.2.lora_A.weight", 1, 1, 16)
        .filled(EXPERTS0 + ".gate_up_projs.2.lora_B.weight", 1, 12, 1)
        .filled(EXPERTS0 + ".down_projs.2.lora_A.weight", 1, 1, 6)
        .filled(EXPERTS0 + ".down_projs.2.lora_B.weight", 1, 16, 1)
        .write(weights());
    try (PeftAdapter adapter = PeftAdapter.open(folder, spec)) {
      assertThat(adapter.modules()).hasSize(3).allMatch(m -> m.expert() == 2);
      WeightMatrix up = adapter.factors(0, LoraTarget.UP, 2).orElseThrow().b();
      assertThat(List.of(up.offset(), up.rowStride())).containsExactly(1L, 2L);
    }
  }

  /** Where a parameter is square, shapes do not say which side A is on. */
  @Test
  void squareParametersNeedAVersionOrANeighbour() {
    ModelSpec gptOss = MoeSpecs.generated("gpt_oss", 16);
    String tensor = EXPERTS0 + ".lora_A.weight";
    copyGenerated("gpt_oss_before_0_19");
    for (String version : new String[] {"\"0.21.2\"", "\"0.19.0\"", "\"0.18.1.dev0\"", "null"}) {
      TinyModel.set(config(), "peft_version", version);
      assertFault(gptOss, tensor, "could be on the inputs or the outputs", "peft_version");
    }
    // Without is_transposed A has been on the inputs since 0.19.1, and before on the outputs.
    ModelSpec mixtral = MoeSpecs.generated("mixtral", 16);
    TinyModel.set(config(), "peft_version", "\"0.19.1\"");
    assertThat(downOfExpert1(mixtral).a().tensor().name()).isEqualTo(tensor);
    TinyModel.set(config(), "peft_version", "\"0.19.0\"");
    assertThat(downOfExpert1(mixtral).b().tensor().name()).isEqualTo(tensor);
  }

  private LoraFactors downOfExpert1(ModelSpec spec) {
    try (PeftAdapter adapter = PeftAdapter.open(folder, spec)) {
      return adapter.factors(0, LoraTarget.DOWN, 1).orElseThrow();
    }
  }

  @ParameterizedTest
  @CsvSource(
      delimiter = '|',
      value = {
        "[\"mlp.experts.up_proj\"]             | mlp.experts.up_proj, no expert parameter",
        "[\"9.mlp.experts.down_proj\"]         | 9.mlp.experts.down_proj, no expert parameter",
        "[\"experts.gate_up_proj_bias\"]       | experts.gate_up_proj_bias, no expert parameter",
        "[\"self_attn.q_proj.weight\"]         | self_attn.q_proj.weight, no expert parameter",
        "[\"p.experts.down_proj\"]             | p.experts.down_proj, no expert parameter",
        "[\"gate_up_proj\", \"router.weight\"] | router.weight, the router's",
        "[\"model.layers.1.mlp.router.weight\"]| mlp.router.weight, the router's",
        "\"mlp.experts.down_proj\"             | not a list"
      })
  void refusesParametersThatTheModelHasNot(String parameters, String message) {
    copyGenerated("gpt_oss_fused");
    TinyModel.set(config(), "target_parameters", parameters);
    assertFault(
        MoeSpecs.generated("gpt_oss", 6), "adapter_config.json: target_parameters", message);
  }

  @Test
  void refusesPairsThatTargetParametersDoesNotExplain() {
    ModelSpec spec = MoeSpecs.generated("gpt_oss", 6);
    copyGenerated("gpt_oss_fused");
    TinyModel.set(config(), "target_parameters", "[\"mlp.experts.down_proj\"]");
    assertFault(spec, EXPERTS0 + ".base_layer.lora_A.weight", "number 2", "names 1");
    TinyModel.set(config(), "target_parameters", "[\"1.mlp.experts.gate_up_proj\"]");
    assertFault(spec, "layers.0.mlp.experts", "number", "names 0");
    TinyModel.set(config(), "target_parameters", "null");
    TinyModel.set(config(), "target_modules", "\"all-linear\"");
    assertFault(spec, "layers.0.mlp.experts", "names 0");

    copyGenerated("gpt_oss_before_0_19");
    TinyModel.set(
        config(), "target_parameters", "[\"mlp.experts.down_proj\", \"experts.gate_up_proj\"]");
    assertFault(
        MoeSpecs.generated("gpt_oss", 16), EXPERTS0 + ".base_layer.lora_A.weight is missing");
    copyGenerated("gpt_oss_layer");
    TinyModel.set(
        config(),
        "target_parameters",
        "[\"mlp.experts.down_proj\", \"0.mlp.experts.gate_up_proj\"]");
    assertFault(MoeSpecs.generated("gpt_oss", 16), "layers.1.mlp.experts.base_layer", "names 1");
    copy(TinyModel.FIXTURES.resolve("gpt_oss/adapters/a0"));
    TinyModel.set(config(), "target_parameters", "[\"mlp.experts.down_proj\"]");
    assertFault(
        MoeSpecs.fixture("gpt_oss"),
        "adapter_model.safetensors",
        "holds no tensors for mlp.experts");
  }

  private SafetensorsBuilder soundMixtral() throws IOException {
    Files.writeString(
        config(),
        "{\"peft_type\":\"LORA\",\"r\":2,\"lora_alpha\":4,\"target_modules\":\"all-linear\"}");
    return mixtralExpert(new SafetensorsBuilder(), "experts.3.w1");
  }

  private static SafetensorsBuilder mixtralExpert(SafetensorsBuilder builder, String module) {
    String name = "base_model.model.model.layers.1.block_sparse_moe." + module;
    return builder
        .filled(name + ".lora_A.weight", 1, 2, 16)
        .filled(name + ".lora_B.weight", 1, 6, 2);
  }

  private void assertTensorFault(SafetensorsBuilder builder, String... parts) {
    builder.write(weights());
    assertFault(MoeSpecs.generated("mixtral", 6), parts);
    assertFault(MoeSpecs.generated("mixtral", 6), "adapter_model.safetensors");
  }

  @Test
  void refusesExpertTensorsThatDoNotFit() throws IOException {
    soundMixtral().write(weights());
    PeftAdapter.open(folder, MoeSpecs.generated("mixtral", 6)).close();

    assertTensorFault(
        mixtralExpert(soundMixtral(), "experts.4.w1"), "experts.4.w1", "expert 4", "4 experts");
    assertTensorFault(
        mixtralExpert(soundMixtral(), "experts.03.w1"), "experts.03.w1", "matches no module");
    assertTensorFault(
        mixtralExpert(soundMixtral(), "experts.3.w4"), "experts.3.w4", "matches no module");
    assertTensorFault(
        mixtralExpert(soundMixtral(), "experts.3.w1.2"), "experts.3.w1.2", "matches no module");
    assertTensorFault(
        mixtralExpert(soundMixtral(), "experts.2.w1.base_layer"), "matches no module");
    assertTensorFault(mixtralExpert(soundMixtral(), "gate"), "block_sparse_moe.gate", "router");
    assertTensorFault(mixtralExpert(soundMixtral(), "experts.3.w2"), "[2, 16]", "[2, 6]");
    String b = "base_model.model.model.layers.1.block_sparse_moe.experts.3.w1.lora_B.weight";
    assertTensorFault(soundMixtral().filled(b, Float.NaN, 6, 2), b, "not finite at [0, 0]");
    assertTensorFault(soundMixtral().remove(b), "lora_A.weight has no partner " + b);
    assertTensorFault(soundMixtral().remove(b.replace("lora_B", "lora_A")), b + " has no partner");
  }

  @Test
  void refusesTwoPairsForOneExpert() throws IOException {
    SafetensorsBuilder builder = soundMixtral();
    TinyModel.set(config(), "target_parameters", "[\"mlp.experts.gate_up_proj\"]");
    String fused = "base_model.model.model.layers.1.mlp.experts";
    builder.filled(fused + ".lora_A.weight", 1, 8, 16).filled(fused + ".lora_B.weight", 1, 12, 8);
    assertTensorFault(builder, fused + ".lora_A.weight changes what", "experts.3.w1.lora_A.weight");
  }

  @Test
  void readsTheDefaultAdapterOfARawStateDict() throws IOException {
    SafetensorsBuilder raw = soundMixtral();
    String module = "base_model.model.model.layers.1.block_sparse_moe.experts.3.w1.lora_";
    raw.remove(module + "A.weight")
        .remove(module + "B.weight")
        .filled(module + "A.default.weight", 1, 2, 16)
        .filled(module + "B.default.weight", 1, 6, 2)
        .write(weights());
    try (PeftAdapter adapter = PeftAdapter.open(folder, MoeSpecs.generated("mixtral", 6))) {
      assertThat(adapter.modules()).containsExactly(new AdaptedModule(1, LoraTarget.GATE, 3));
    }
    assertTensorFault(mixtralExpert(raw, "experts.2.w1"), "experts.2.w1", "adapter's name");
    assertTensorFault(
        soundMixtral().filled(module + "A.mine.weight", 1, 2, 16), "lora_A.mine.weight", "neither");
  }

  @Test
  void refusesAdaptersForAnotherNumberOfExperts() {
    copyGenerated("gpt_oss_fused");
    ModelSpec more = MoeSpecs.of("gpt_oss", 16, new int[] {2, 1, 8}, 6, 8);
    assertFault(more, EXPERTS0, "[8, 16]", "[16, 16]");
    copyGenerated("dbrx_flat");
    ModelSpec fewer = MoeSpecs.of("dbrx", 16, new int[] {2, 1, 8}, 6, 2);
    assertFault(fewer, "ffn.experts.mlp", "[24, 2]", "[12, 2]");
  }

  @Test
  void refusesAdaptersForAnotherArchitecture() {
    copyGenerated("dbrx_flat");
    assertFault(MoeSpecs.generated("gpt_oss", 6), "target_parameters", "ffn.experts.mlp.w1");
  }
}
