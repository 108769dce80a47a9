package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Configurations and tensors of models with experts: other spellings, and ones that lie. */
class MoeConfigTest {

  private static final String MIXTRAL = "model.layers.1.block_sparse_moe.";

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

  private void assertTensorFault(
      String fixture, Consumer<SafetensorsBuilder> change, String... parts) {
    TinyModel.change(fixture, folder, change);
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> Checkpoints.open(folder).close(), parts);
  }

  private static ObjectNode object(ObjectNode config, String key) {
    return (ObjectNode) config.get(key);
  }

  private static void movePlainRope(ObjectNode config, double theta) {
    config.remove("rope_scaling");
    config.remove("rope_theta");
    config.putObject("rope_parameters").put("rope_type", "default").put("rope_theta", theta);
  }

  @Test
  void bothStylesMeanTheSame() {
    ModelSpec qwen = spec("qwen3_moe", c -> {});
    assertThat(
            spec(
                "qwen3_moe",
                c -> {
                  movePlainRope(c, 1e6);
                  c.set("num_local_experts", c.remove("num_experts"));
                }))
        .isEqualTo(qwen);
    ModelSpec mixtral = spec("mixtral", c -> {});
    assertThat(
            spec(
                "mixtral",
                c -> {
                  c.remove("rope_parameters");
                  c.put("rope_theta", 1e6);
                  c.set("num_experts", c.remove("num_local_experts"));
                }))
        .isEqualTo(mixtral);
    ModelSpec gptOss = spec("gpt_oss", c -> {});
    assertThat(
            spec(
                "gpt_oss",
                c -> {
                  ObjectNode rope = (ObjectNode) c.remove("rope_scaling");
                  rope.set("rope_theta", c.remove("rope_theta"));
                  c.set("rope_parameters", rope);
                  c.remove("num_experts_per_tok");
                  c.remove("swiglu_limit");
                  c.remove("layer_types");
                }))
        .isEqualTo(gptOss);
    ModelSpec dbrx = spec("dbrx", c -> {});
    assertThat(spec("dbrx", c -> movePlainRope(c, 500000))).isEqualTo(dbrx);
    assertThat(spec("dbrx", c -> c.remove("rope_theta"))).isEqualTo(dbrx);
    assertThat(spec("dbrx", c -> object(c, "attn_config").remove("rope_theta"))).isEqualTo(dbrx);
  }

  @Test
  void dbrxMayNormaliseOrNot() {
    ModelSpec none =
        spec("dbrx", c -> object(c, "ffn_config").putNull("moe_normalize_expert_weights"));
    assertThat(none.mlp().moe().normalise()).isFalse();
    ModelSpec one =
        spec("dbrx", c -> object(c, "ffn_config").put("moe_normalize_expert_weights", 1.0));
    assertThat(one.mlp().moe().normalise()).isTrue();
    assertFault(
        "dbrx",
        c -> object(c, "ffn_config").put("moe_normalize_expert_weights", 2),
        "ffn_config.moe_normalize_expert_weights is 2.0");
    ModelSpec unbounded = spec("dbrx", c -> object(c, "attn_config").putNull("clip_qkv"));
    assertThat(unbounded.attention().clipQkv()).isZero();
  }

  @Test
  void qwenNormalisesOnRequest() {
    assertThat(spec("qwen3_moe", c -> c.put("norm_topk_prob", false)).mlp().moe().normalise())
        .isFalse();
    assertThat(spec("qwen3_moe", c -> c.remove("norm_topk_prob")).mlp().moe().normalise())
        .isFalse();
  }

  @Test
  void windowsFollowTheArchitecture() {
    assertThat(spec("mixtral", c -> c.put("sliding_window", 9)).attention().windows())
        .containsExactly(9, 9);
    assertThat(spec("mixtral", c -> c.remove("sliding_window")).attention().windows())
        .containsExactly(0, 0);
    assertThat(
            spec("qwen3_moe", c -> c.put("use_sliding_window", true).put("sliding_window", 9))
                .attention()
                .windows())
        .containsExactly(9, 9);
    assertThat(
            spec(
                    "gpt_oss",
                    c ->
                        c.set(
                            "layer_types",
                            TinyModel.json("[\"full_attention\",\"sliding_attention\"]")))
                .attention()
                .windows())
        .containsExactly(0, 8);
  }

  @Test
  void gptOssMayHavePlainRotation() {
    ModelSpec spec = spec("gpt_oss", c -> c.putObject("rope_scaling").put("rope_type", "default"));
    assertThat(spec.rope()).isEqualTo(RopeSpec.plain(150000));
  }

  @Test
  void refusesImpossibleNumbers() {
    assertFault("mixtral", c -> c.put("num_local_experts", 0), "num_local_experts is 0");
    assertFault("mixtral", c -> c.put("num_local_experts", -1), "num_local_experts is -1");
    assertFault(
        "mixtral", c -> c.put("num_local_experts", 2_000_000_000), "num_local_experts", "16384");
    assertFault("mixtral", c -> c.remove("num_local_experts"), "num_local_experts is missing");
    assertFault("mixtral", c -> c.put("num_experts_per_tok", 0), "num_experts_per_tok is 0");
    assertFault(
        "mixtral", c -> c.put("num_experts_per_tok", 9), "num_experts_per_tok is 9", "8 experts");
    assertFault("qwen3_moe", c -> c.put("num_experts_per_tok", 17), "16 experts");
    assertFault("gpt_oss", c -> c.put("num_experts_per_tok", 9), "num_experts_per_tok");
    assertFault(
        "dbrx", c -> object(c, "ffn_config").put("moe_top_k", 9), "ffn_config.moe_top_k is 9");
    assertFault(
        "dbrx", c -> object(c, "ffn_config").put("moe_num_experts", 0), "moe_num_experts is 0");
    assertFault("dbrx", c -> object(c, "attn_config").put("kv_n_heads", 3), "attn_config.kv_n_");
    assertFault("dbrx", c -> object(c, "attn_config").put("clip_qkv", -1), "clip_qkv");
    assertFault("dbrx", c -> c.put("n_heads", 5), "n_heads is 5");
  }

  @Test
  void refusesWhatItCannotCompute() {
    assertFault(
        "qwen3_moe", c -> c.putArray("mlp_only_layers").add(1), "config.json", "mlp_only_layers");
    assertFault("qwen3_moe", c -> c.put("decoder_sparse_step", 2), "decoder_sparse_step is 2");
    assertFault("gpt_oss", c -> c.put("swiglu_limit", 5), "swiglu_limit is 5.0; only 7.0");
    assertFault("gpt_oss", c -> c.remove("rope_scaling"), "rope_scaling is missing");
    assertFault(
        "dbrx",
        c -> object(c, "ffn_config").putObject("ffn_act_fn").put("name", "gelu"),
        "ffn_config.ffn_act_fn is \"gelu\"");
    assertFault("dbrx", c -> c.remove("attn_config"), "attn_config is missing");
    assertFault(
        "dbrx", c -> c.put("rope_theta", 10000), "attn_config.rope_theta is 500000.0", "10000.0");
  }

  @Test
  void refusesWrongCountsOfExperts() {
    assertFault("mixtral", c -> c.put("num_local_experts", 9), "gate.weight", "[8, 48]", "[9, 48]");
    assertFault("mixtral", c -> c.put("intermediate_size", 41), "w1.weight", "[40, 48]");
    assertFault("gpt_oss", c -> c.put("num_local_experts", 7), "router.weight", "[7, 48]");
    assertFault("gpt_oss", c -> c.put("intermediate_size", 35), "gate_up_proj", "[8, 48, 70]");
    assertFault(
        "dbrx",
        c -> object(c, "ffn_config").put("ffn_hidden_size", 12),
        "ffn.experts.mlp.w1",
        "[192, 48]",
        "[96, 48]");
    assertFault(
        "dbrx", c -> object(c, "attn_config").put("kv_n_heads", 4), "Wqkv.weight", "[144, 48]");
    assertFault("gpt_oss", c -> c.put("attention_bias", false), "proj.bias is no parameter");
  }

  @Test
  void refusesExpertsThatDoNotFit() {
    String expert = MIXTRAL + "experts.5.w2.weight";
    assertTensorFault(
        "mixtral", t -> t.remove(expert), "model.safetensors", expert + " is missing");
    assertTensorFault("mixtral", t -> t.filled(expert, 0, 48, 39), expert, "[48, 39]", "[48, 40]");
    String extra = MIXTRAL + "experts.8.w2.weight";
    assertTensorFault(
        "mixtral",
        t -> t.filled(extra, 0, 48, 40),
        extra + " is no parameter of this mixtral model of 2 layers and 8 experts");
    assertTensorFault("mixtral", t -> t.remove(MIXTRAL + "gate.weight"), "gate.weight is missing");
    String bias = "model.layers.0.mlp.experts.gate_up_proj_bias";
    assertTensorFault("gpt_oss", t -> t.remove(bias), bias + " is missing");
    assertTensorFault("gpt_oss", t -> t.filled(bias, 0, 8, 71), bias, "[8, 71]", "[8, 72]");
    String sinks = "model.layers.1.self_attn.sinks";
    assertTensorFault("gpt_oss", t -> t.filled(sinks, 0, 5), sinks, "[5]", "[4]");
  }

  /** Joins the experts of a mixtral layer as transformers 5 holds them. */
  private static void fuse(SafetensorsBuilder tensors, Checkpoint source, int layer) {
    String old = "model.layers." + layer + ".block_sparse_moe.";
    String fused = "model.layers." + layer + ".mlp.";
    byte[] gateUp = new byte[0];
    byte[] down = new byte[0];
    for (int e = 0; e < 8; e++) {
      gateUp = GgufBuilder.join(gateUp, bytes(source.matrix(Param.GATE, layer, e)));
      gateUp = GgufBuilder.join(gateUp, bytes(source.matrix(Param.UP, layer, e)));
      down = GgufBuilder.join(down, bytes(source.matrix(Param.DOWN, layer, e)));
      for (String name : List.of("w1", "w2", "w3")) {
        tensors.remove(old + "experts." + e + "." + name + ".weight");
      }
    }
    tensors
        .rename(old + "gate.weight", fused + "gate.weight")
        .raw(fused + "experts.gate_up_proj", "BF16", gateUp, 8, 80, 48)
        .raw(fused + "experts.down_proj", "BF16", down, 8, 48, 40);
  }

  private static byte[] bytes(WeightMatrix whole) {
    return whole.tensor().data().toArray(ValueLayout.JAVA_BYTE);
  }

  private static float[] elements(WeightMatrix matrix) {
    float[] elements = new float[matrix.rows() * matrix.cols()];
    for (int i = 0; i < elements.length; i++) {
      elements[i] = RawTensors.element(matrix, i / matrix.cols(), i % matrix.cols());
    }
    return elements;
  }

  @Test
  void readsTheFusedFormAsWell() {
    try (Checkpoint separate = Checkpoints.open(TinyModel.FIXTURES.resolve("mixtral"))) {
      TinyModel.change(
          "mixtral",
          folder,
          tensors -> {
            fuse(tensors, separate, 0);
            fuse(tensors, separate, 1);
          });
      try (Checkpoint fused = Checkpoints.open(folder)) {
        assertThat(fused.spec()).isEqualTo(separate.spec());
        for (Param param : List.of(Param.GATE, Param.UP, Param.DOWN)) {
          for (int e = 0; e < 8; e++) {
            assertThat(fused.matrix(param, 1, e).tensor().shape()).hasSize(3);
            assertThat(
                    Arrays.equals(
                        elements(fused.matrix(param, 1, e)),
                        elements(separate.matrix(param, 1, e))))
                .isTrue();
          }
        }
      }
    }
  }
}
