package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.Activation;
import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.ModelSpec.Moe;
import io.infinilora.core.ModelSpec.Norm;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** GGUF files of models with experts, in the names and layouts of llama.cpp's converter. */
class MoeGgufTest {

  private static final int EXPERTS = 3;
  private static final int HIDDEN = TinyGguf.HIDDEN;
  private static final int INNER = 32;

  @TempDir Path folder;

  private Checkpoint open(GgufBuilder builder) {
    return Checkpoints.open(builder.write(folder.resolve("tiny.gguf")));
  }

  private void assertFault(GgufBuilder builder, String... parts) {
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> open(builder).close(), parts);
  }

  /** Elements that are their own numbers, from {@code first} on. */
  private static float[] counting(int first, int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = first + i;
    }
    return values;
  }

  private static GgufBuilder routed(String architecture) {
    GgufBuilder builder =
        TinyGguf.of(architecture)
            .uint32(architecture + ".expert_count", EXPERTS)
            .uint32(architecture + ".expert_used_count", 2)
            .floats("blk.0.ffn_gate_inp.weight", new long[] {EXPERTS, HIDDEN});
    for (String name : List.of("gate", "up", "down")) {
      builder.removeTensor("blk.0.ffn_" + name + ".weight");
    }
    return builder;
  }

  private static GgufBuilder stacked(String architecture) {
    int each = INNER * HIDDEN * EXPERTS;
    return routed(architecture)
        .floats(
            "blk.0.ffn_gate_exps.weight", new long[] {EXPERTS, INNER, HIDDEN}, counting(0, each))
        .floats(
            "blk.0.ffn_up_exps.weight", new long[] {EXPERTS, INNER, HIDDEN}, counting(each, each))
        .floats(
            "blk.0.ffn_down_exps.weight",
            new long[] {EXPERTS, HIDDEN, INNER},
            counting(2 * each, each));
  }

  /** Every expert of the stacked form holds the numbers that follow those of the one before. */
  private static void assertStacked(Checkpoint checkpoint) {
    int each = INNER * HIDDEN;
    for (int e = 0; e < EXPERTS; e++) {
      assertCounts(checkpoint.matrix(Param.GATE, 0, e), INNER, HIDDEN, e * each);
      assertCounts(checkpoint.matrix(Param.UP, 0, e), INNER, HIDDEN, (EXPERTS + e) * each);
      assertCounts(checkpoint.matrix(Param.DOWN, 0, e), HIDDEN, INNER, (2 * EXPERTS + e) * each);
    }
  }

  private static void assertCounts(WeightMatrix matrix, int rows, int cols, int first) {
    assertThat(matrix.rows()).isEqualTo(rows);
    assertThat(matrix.cols()).isEqualTo(cols);
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < cols; j++) {
        assertThat(RawTensors.element(matrix, i, j)).isEqualTo(first + i * cols + j);
      }
    }
  }

  private static void assertCounts(TensorView vector, int size, int first) {
    assertThat(vector.shape()).containsExactly(size);
    for (int i = 0; i < size; i++) {
      assertThat(RawTensors.element(vector, i)).isEqualTo(first + i);
    }
  }

  @Test
  void llamaWithExpertsIsMixtral() {
    try (Checkpoint checkpoint = open(stacked("llama"))) {
      assertThat(checkpoint.spec().architecture()).isEqualTo("mixtral");
      assertThat(checkpoint.spec().mlp())
          .isEqualTo(
              new ModelSpec.Mlp(
                  INNER, Activation.SWIGLU, new Moe(EXPERTS, 2, true, true, false, false)));
      assertThat(checkpoint.matrix(Param.Q, 0).rowOrder())
          .containsExactly(RowPermutation.halvesFromPairs(2, 8));
      assertThat(checkpoint.matrix(Param.K, 0).rowOrder()).isNotNull();
      assertThat(checkpoint.matrix(Param.ROUTER, 0).rows()).isEqualTo(EXPERTS);
      assertStacked(checkpoint);
    }
  }

  @Test
  void theFirstFilesHadATensorPerExpert() {
    GgufBuilder builder = routed("llama");
    int each = INNER * HIDDEN;
    for (int e = 0; e < EXPERTS; e++) {
      builder
          .floats(
              "blk.0.ffn_gate." + e + ".weight",
              new long[] {INNER, HIDDEN},
              counting(e * each, each))
          .floats(
              "blk.0.ffn_up." + e + ".weight",
              new long[] {INNER, HIDDEN},
              counting((EXPERTS + e) * each, each))
          .floats(
              "blk.0.ffn_down." + e + ".weight",
              new long[] {HIDDEN, INNER},
              counting((2 * EXPERTS + e) * each, each));
    }
    try (Checkpoint checkpoint = open(builder)) {
      assertStacked(checkpoint);
    }
    assertFault(builder.removeTensor("blk.0.ffn_up.2.weight"), "blk.0.ffn_up.2.weight is missing");
  }

  private static GgufBuilder qwen() {
    return stacked("qwen3moe")
        .uint32("qwen3moe.feed_forward_length", 99)
        .uint32("qwen3moe.expert_feed_forward_length", INNER)
        .floats("blk.0.attn_q_norm.weight", new long[] {8})
        .floats("blk.0.attn_k_norm.weight", new long[] {8});
  }

  @Test
  void qwen3MoeHasExpertsOfTheirOwnWidth() {
    try (Checkpoint checkpoint = open(qwen())) {
      assertThat(checkpoint.spec().architecture()).isEqualTo("qwen3_moe");
      assertThat(checkpoint.spec().mlp())
          .isEqualTo(
              new ModelSpec.Mlp(
                  INNER, Activation.SWIGLU, new Moe(EXPERTS, 2, true, true, false, false)));
      assertThat(checkpoint.spec().attention().qkNorm()).isTrue();
      assertThat(checkpoint.matrix(Param.Q, 0).rowOrder()).isNull();
      assertStacked(checkpoint);
    }
  }

  private static GgufBuilder gptOss() {
    String block = "blk.0.";
    return stacked("gpt-oss")
        .uint32("gpt-oss.expert_feed_forward_length", INNER)
        .uint32("gpt-oss.attention.sliding_window", 12)
        .uint32("gpt-oss.attention.key_length", 8)
        .uint32("gpt-oss.attention.value_length", 8)
        .text("gpt-oss.rope.scaling.type", "yarn")
        .float32("gpt-oss.rope.scaling.factor", 32)
        .uint32("gpt-oss.rope.scaling.original_context_length", 4096)
        .removeTensor(block + "ffn_norm.weight")
        .floats(block + "post_attention_norm.weight", new long[] {HIDDEN}, counting(7, HIDDEN))
        .floats(block + "attn_q.bias", new long[] {16}, counting(0, 16))
        .floats(block + "attn_k.bias", new long[] {8})
        .floats(block + "attn_v.bias", new long[] {8})
        .floats(block + "attn_output.bias", new long[] {HIDDEN})
        .floats(block + "attn_sinks.weight", new long[] {2}, counting(5, 2))
        .floats(block + "ffn_gate_inp.bias", new long[] {EXPERTS}, counting(9, EXPERTS))
        .floats(block + "ffn_gate_exps.bias", new long[] {EXPERTS, INNER}, counting(0, 96))
        .floats(block + "ffn_up_exps.bias", new long[] {EXPERTS, INNER}, counting(100, 96))
        .floats(block + "ffn_down_exps.bias", new long[] {EXPERTS, HIDDEN}, counting(200, 48));
  }

  @Test
  void gptOssHasSinksAndBiases() {
    try (Checkpoint checkpoint = open(gptOss())) {
      ModelSpec spec = checkpoint.spec();
      assertThat(spec.architecture()).isEqualTo("gpt_oss");
      assertThat(spec.mlp())
          .isEqualTo(
              new ModelSpec.Mlp(
                  INNER, Activation.SWIGLU_CLAMPED, new Moe(EXPERTS, 2, false, true, true, true)));
      assertThat(spec.attention().windows()).containsExactly(12);
      assertThat(spec.rope().scaling())
          .isEqualTo(new RopeSpec.Yarn(32, 32, 1, 4096, 0.1 * Math.log(32) + 1, false));
      assertThat(checkpoint.matrix(Param.Q, 0).rowOrder()).isNull();
      assertCounts(checkpoint.vector(Param.Q_BIAS, 0), 16, 0);
      assertCounts(checkpoint.vector(Param.MLP_NORM, 0), HIDDEN, 7);
      assertCounts(checkpoint.vector(Param.SINKS, 0), 2, 5);
      assertCounts(checkpoint.vector(Param.ROUTER_BIAS, 0), EXPERTS, 9);
      assertStacked(checkpoint);
      for (int e = 0; e < EXPERTS; e++) {
        assertCounts(checkpoint.vector(Param.GATE_BIAS, 0, e), INNER, e * INNER);
        assertCounts(checkpoint.vector(Param.UP_BIAS, 0, e), INNER, 100 + e * INNER);
        assertCounts(checkpoint.vector(Param.DOWN_BIAS, 0, e), HIDDEN, 200 + e * HIDDEN);
      }
    }
  }

  @Test
  void slicesMxfp4ByExpert() {
    int type = 39;
    GgufBuilder builder =
        gptOss().zeros("blk.0.ffn_down_exps.weight", type, DType.MXFP4, EXPERTS, HIDDEN, INNER);
    try (Checkpoint checkpoint = open(builder)) {
      WeightMatrix down = checkpoint.matrix(Param.DOWN, 0, 2);
      assertThat(down.dtype()).isEqualTo(DType.MXFP4);
      assertThat(down.scales()).isNull();
      assertThat(down.rows()).isEqualTo(HIDDEN);
      assertThat(down.element(3)).isEqualTo((2 * HIDDEN + 3) * INNER);
    }
    assertFault(
        builder.zeros("blk.0.attn_sinks.weight", type, DType.MXFP4, 32),
        "blk.0.attn_sinks.weight",
        "[32]");
  }

  @Test
  void gateAndUpMayShareATensor() {
    int each = INNER * HIDDEN;
    GgufBuilder builder =
        gptOss()
            .removeTensor("blk.0.ffn_gate_exps.weight")
            .removeTensor("blk.0.ffn_up_exps.weight")
            .removeTensor("blk.0.ffn_gate_exps.bias")
            .removeTensor("blk.0.ffn_up_exps.bias")
            .floats(
                "blk.0.ffn_gate_up_exps.weight",
                new long[] {EXPERTS, 2 * INNER, HIDDEN},
                counting(0, 2 * EXPERTS * each))
            .floats(
                "blk.0.ffn_gate_up_exps.bias",
                new long[] {EXPERTS, 2 * INNER},
                counting(0, 2 * EXPERTS * INNER));
    try (Checkpoint checkpoint = open(builder)) {
      for (int e = 0; e < EXPERTS; e++) {
        assertCounts(checkpoint.matrix(Param.GATE, 0, e), INNER, HIDDEN, 2 * e * each);
        assertCounts(checkpoint.matrix(Param.UP, 0, e), INNER, HIDDEN, (2 * e + 1) * each);
        assertCounts(checkpoint.vector(Param.UP_BIAS, 0, e), INNER, (2 * e + 1) * INNER);
      }
    }
  }

  @Test
  void dbrxKeepsQueriesKeysAndValuesTogether() {
    GgufBuilder builder =
        stacked("dbrx")
            .remove("dbrx.attention.layer_norm_rms_epsilon")
            .float32("dbrx.attention.layer_norm_epsilon", 1e-5f)
            .float32("dbrx.attention.clamp_kqv", 8)
            .removeTensor("blk.0.attn_q.weight")
            .removeTensor("blk.0.attn_k.weight")
            .removeTensor("blk.0.attn_v.weight")
            .removeTensor("blk.0.ffn_norm.weight")
            .floats("blk.0.attn_output_norm.weight", new long[] {HIDDEN})
            .floats("blk.0.attn_qkv.weight", new long[] {32, HIDDEN}, counting(0, 32 * HIDDEN));
    try (Checkpoint checkpoint = open(builder)) {
      assertThat(checkpoint.spec().architecture()).isEqualTo("dbrx");
      assertThat(checkpoint.spec().norm()).isEqualTo(Norm.LAYER);
      assertThat(checkpoint.spec().attention().clipQkv()).isEqualTo(8);
      assertCounts(checkpoint.matrix(Param.Q, 0), 16, HIDDEN, 0);
      assertCounts(checkpoint.matrix(Param.K, 0), 8, HIDDEN, 16 * HIDDEN);
      assertCounts(checkpoint.matrix(Param.V, 0), 8, HIDDEN, 24 * HIDDEN);
      assertStacked(checkpoint);
    }
  }

  @Test
  void refusesExpertsThatDoNotFit() {
    assertFault(
        stacked("llama").removeTensor("blk.0.ffn_up_exps.weight"),
        "tiny.gguf",
        "blk.0.ffn_up_exps.weight is missing");
    assertFault(
        stacked("llama").floats("blk.0.ffn_up_exps.weight", new long[] {EXPERTS, 31, HIDDEN}),
        "blk.0.ffn_up_exps.weight",
        "[3, 31, 16]",
        "[3, 32, 16]");
    assertFault(
        stacked("llama").floats("blk.0.ffn_up_exps.weight", new long[] {2, INNER, HIDDEN}),
        "[2, 32, 16]",
        "[3, 32, 16]");
    assertFault(
        stacked("llama").floats("blk.0.ffn_gate_shexp.weight", new long[] {4}),
        "blk.0.ffn_gate_shexp.weight is no parameter",
        "3 experts");
    assertFault(stacked("llama").uint32("llama.expert_used_count", 4), "expert_used_count is 4");
    assertFault(stacked("llama").uint32("llama.expert_used_count", 0), "expert_used_count is 0");
    assertFault(stacked("llama").remove("llama.expert_used_count"), "expert_used_count is missing");
    assertFault(stacked("llama").uint32("llama.expert_count", 4), "ffn_gate_inp", "[4, 16]");
    assertFault(stacked("llama").uint32("llama.expert_count", -1), "llama.expert_count");
    assertFault(stacked("llama").uint32("llama.expert_count", 0), "ffn_gate.weight is missing");
    assertFault(qwen().uint32("qwen3moe.expert_count", 0), "qwen3moe.expert_count is 0");
    assertFault(qwen().remove("qwen3moe.expert_feed_forward_length"), "is missing");
    assertFault(gptOss().remove("gpt-oss.attention.sliding_window"), "sliding_window is missing");
    assertFault(gptOss().uint32("gpt-oss.attention.sliding_window_pattern", 4), "pattern is not 2");
    assertFault(
        gptOss().zeros("blk.0.ffn_gate_exps.bias", 8, DType.Q8_0, EXPERTS, INNER),
        "blk.0.ffn_gate_exps.bias is a vector, but quantised");
  }
}
