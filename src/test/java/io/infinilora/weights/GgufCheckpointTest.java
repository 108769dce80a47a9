package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GgufCheckpointTest {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  @TempDir Path folder;

  private Checkpoint open(GgufBuilder builder) {
    return Checkpoints.open(builder.write(folder.resolve("tiny.gguf")));
  }

  private void assertFault(GgufBuilder builder, String... parts) {
    Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> open(builder).close(), parts);
  }

  @Test
  void describesALlama() {
    try (Checkpoint checkpoint = open(TinyGguf.of("llama"))) {
      ModelSpec spec = checkpoint.spec();
      assertThat(spec.architecture()).isEqualTo("llama");
      assertThat(spec.layers()).isEqualTo(1);
      assertThat(spec.hidden()).isEqualTo(16);
      assertThat(spec.vocab()).isEqualTo(6);
      assertThat(spec.maxPositions()).isEqualTo(64);
      assertThat(spec.attention().headDim()).isEqualTo(8);
      assertThat(spec.attention().kvHeads()).isEqualTo(1);
      assertThat(spec.attention().windows()).containsExactly(0);
      assertThat(spec.attention().qkvBias()).isFalse();
      assertThat(spec.mlp().intermediate()).isEqualTo(32);
      assertThat(spec.normEps()).isEqualTo(1e-5, within(1e-9));
      assertThat(spec.rope()).isEqualTo(RopeSpec.plain(5000));
      assertThat(spec.bosToken()).isZero();
      assertThat(spec.eosTokens()).containsExactly(1);
    }
  }

  @Test
  void tiesTheHeadWhenThereIsNone() {
    try (Checkpoint checkpoint = open(TinyGguf.of("llama"))) {
      assertThat(checkpoint.spec().tiedEmbeddings()).isTrue();
      assertThat(checkpoint.matrix(Param.LM_HEAD, 0).tensor().name())
          .isEqualTo("token_embd.weight");
    }
    GgufBuilder untied = TinyGguf.of("llama").floats("output.weight", new long[] {6, 16});
    try (Checkpoint checkpoint = open(untied)) {
      assertThat(checkpoint.spec().tiedEmbeddings()).isFalse();
      assertThat(checkpoint.matrix(Param.LM_HEAD, 0).tensor().name()).isEqualTo("output.weight");
    }
  }

  /** The converter's own steps: view as [heads, 2, dim/2], swap the last two axes, flatten. */
  private static int[] convertedRows(int heads, int headDim) {
    int[] rows = new int[heads * headDim];
    int at = 0;
    for (int head = 0; head < heads; head++) {
      for (int j = 0; j < headDim / 2; j++) {
        for (int p = 0; p < 2; p++) {
          rows[at++] = head * headDim + p * (headDim / 2) + j;
        }
      }
    }
    return rows;
  }

  private static float[] filledRows(int[] rows, int cols) {
    float[] values = new float[rows.length * cols];
    for (int i = 0; i < values.length; i++) {
      values[i] = rows[i / cols];
    }
    return values;
  }

  private static void assertHuggingFaceOrder(WeightMatrix matrix) {
    for (int row = 0; row < matrix.rows(); row++) {
      long at = matrix.element(row);
      assertThat(matrix.tensor().data().getAtIndex(FLOAT, at)).isEqualTo(row);
    }
  }

  @Test
  void undoesTheRowOrderOfLlamaQueriesAndKeys() {
    // numpy: arange(12).reshape(2, 2, 3).swapaxes(1, 2).ravel()
    assertThat(convertedRows(2, 6)).containsExactly(0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11);
    GgufBuilder builder =
        TinyGguf.of("llama")
            .floats("blk.0.attn_q.weight", new long[] {16, 16}, filledRows(convertedRows(2, 8), 16))
            .floats("blk.0.attn_k.weight", new long[] {8, 16}, filledRows(convertedRows(1, 8), 16))
            .floats("blk.0.attn_q.bias", new long[] {16}, filledRows(convertedRows(2, 8), 1))
            .floats("blk.0.attn_k.bias", new long[] {8}, filledRows(convertedRows(1, 8), 1))
            .floats("blk.0.attn_v.bias", new long[] {8}, 0, 1, 2, 3, 4, 5, 6, 7);
    try (Checkpoint checkpoint = open(builder)) {
      assertThat(checkpoint.spec().attention().qkvBias()).isTrue();
      assertHuggingFaceOrder(checkpoint.matrix(Param.Q, 0));
      assertHuggingFaceOrder(checkpoint.matrix(Param.K, 0));
      assertThat(checkpoint.matrix(Param.V, 0).rowOrder()).isNull();
      for (Param bias : List.of(Param.Q_BIAS, Param.K_BIAS, Param.V_BIAS)) {
        TensorView vector = checkpoint.vector(bias, 0);
        for (int i = 0; i < vector.elements(); i++) {
          assertThat(vector.data().getAtIndex(FLOAT, i)).isEqualTo(i);
        }
      }
    }
  }

  @Test
  void qwen2NeedsItsBiasesAndKeepsItsRows() {
    assertFault(TinyGguf.of("qwen2"), "tensor blk.0.attn_q.bias is missing");
    GgufBuilder builder =
        TinyGguf.of("qwen2")
            .floats("blk.0.attn_q.bias", new long[] {16})
            .floats("blk.0.attn_k.bias", new long[] {8})
            .floats("blk.0.attn_v.bias", new long[] {8});
    try (Checkpoint checkpoint = open(builder)) {
      assertThat(checkpoint.spec().architecture()).isEqualTo("qwen2");
      assertThat(checkpoint.matrix(Param.Q, 0).rowOrder()).isNull();
      assertThat(checkpoint.matrix(Param.K, 0).rowOrder()).isNull();
    }
  }

  @Test
  void qwen3HasHeadNormsAndItsOwnHeadSize() {
    GgufBuilder builder =
        TinyGguf.of("qwen3")
            .uint32("qwen3.attention.key_length", 12)
            .uint32("qwen3.attention.value_length", 12)
            .floats("blk.0.attn_q.weight", new long[] {24, 16})
            .floats("blk.0.attn_k.weight", new long[] {12, 16})
            .floats("blk.0.attn_v.weight", new long[] {12, 16})
            .floats("blk.0.attn_output.weight", new long[] {16, 24})
            .floats("blk.0.attn_q_norm.weight", new long[] {12})
            .floats("blk.0.attn_k_norm.weight", new long[] {12});
    try (Checkpoint checkpoint = open(builder)) {
      assertThat(checkpoint.spec().attention().qkNorm()).isTrue();
      assertThat(checkpoint.spec().attention().qkvBias()).isFalse();
      assertThat(checkpoint.spec().attention().headDim()).isEqualTo(12);
      assertThat(checkpoint.matrix(Param.Q, 0).rowOrder()).isNull();
    }
  }

  @Test
  void readsRopeScaling() {
    GgufBuilder linear =
        TinyGguf.of("llama")
            .text("llama.rope.scaling.type", "linear")
            .float32("llama.rope.scaling.factor", 4);
    try (Checkpoint checkpoint = open(linear)) {
      assertThat(checkpoint.spec().rope().scaling()).isEqualTo(new RopeSpec.Linear(4));
    }
    GgufBuilder yarn =
        TinyGguf.of("llama")
            .text("llama.rope.scaling.type", "yarn")
            .float32("llama.rope.scaling.factor", 4)
            .uint32("llama.rope.scaling.original_context_length", 16);
    try (Checkpoint checkpoint = open(yarn)) {
      assertThat(checkpoint.spec().rope().scaling())
          .isEqualTo(new RopeSpec.Yarn(4, 32, 1, 16, 0.1 * Math.log(4) + 1, true));
    }
    GgufBuilder factors =
        TinyGguf.of("llama").floats("rope_freqs.weight", new long[] {4}, 1, 1, 2, 8);
    try (Checkpoint checkpoint = open(factors)) {
      assertThat(checkpoint.spec().rope().scaling())
          .isEqualTo(new RopeSpec.Factors(List.of(1.0, 1.0, 2.0, 8.0)));
      double[] plain = RopeSpec.plain(5000).inverseFrequencies(8);
      assertThat(checkpoint.spec().rope().inverseFrequencies(8))
          .containsExactly(plain[0], plain[1], plain[2] / 2, plain[3] / 8);
    }
    assertFault(
        TinyGguf.of("llama").floats("rope_freqs.weight", new long[] {4}, 1, 1, 0, 8),
        "rope_freqs.weight");
    assertFault(
        TinyGguf.of("llama").floats("rope_freqs.weight", new long[] {3}, 1, 1, 2),
        "rope_freqs.weight");
    assertFault(TinyGguf.of("llama").text("llama.rope.scaling.type", "longrope"), "longrope");
    assertFault(TinyGguf.of("llama").uint32("llama.rope.dimension_count", 4), "dimension_count");
  }

  @Test
  void appliesASlidingWindowToEveryLayer() {
    try (Checkpoint c = open(TinyGguf.of("llama").uint32("llama.attention.sliding_window", 9))) {
      assertThat(c.spec().attention().windows()).containsExactly(9);
    }
  }

  @Test
  void readsTheVocabularyAndItsMeaning() {
    GgufBuilder builder =
        TinyGguf.of("llama")
            .uint32("tokenizer.ggml.eot_token_id", 5)
            .bool("tokenizer.ggml.add_bos_token", true);
    try (Checkpoint checkpoint = open(builder)) {
      assertThat(checkpoint.spec().eosTokens()).containsExactly(1, 5);
      assertThat(checkpoint.text().addBos()).isTrue();
      assertThat(checkpoint.text().bosToken()).isEqualTo("<s>");
      assertThat(checkpoint.text().eosToken()).isEqualTo("</s>");
      assertThat(checkpoint.text().chatTemplate()).contains("{{ messages }}");
      assertThat(checkpoint.text().vocabulary())
          .hasValueSatisfying(
              v -> {
                assertThat(v.tokens()).hasSize(6).contains("ab");
                assertThat(v.types()).containsExactly(3, 3, 1, 1, 1, 3);
                assertThat(v.merges()).containsExactly("a b");
                assertThat(v.preTokenizer()).isEqualTo("smollm");
              });
    }
  }

  @Test
  void otherTokenizersGiveNoVocabulary() {
    try (Checkpoint c = open(TinyGguf.of("llama").text("tokenizer.ggml.model", "llama"))) {
      assertThat(c.text().vocabulary()).isEmpty();
      assertThat(c.text().bosToken()).isEqualTo("<s>");
    }
  }

  @Test
  void opensTheOnlyGgufOfADirectory() {
    TinyGguf.of("llama").write(folder.resolve("one.gguf"));
    try (Checkpoint checkpoint = Checkpoints.open(folder)) {
      assertThat(checkpoint.describe()).contains("one.gguf");
    }
    TinyGguf.of("llama").write(folder.resolve("two.gguf"));
    Faults.assertFault(
        ErrorCode.BAD_MODEL_FILE, () -> Checkpoints.open(folder), "found 2", folder.toString());
  }

  @Test
  void refusesWhatDoesNotFitTogether() {
    assertFault(new GgufBuilder(), "general.architecture is missing");
    Faults.assertFault(
        ErrorCode.UNSUPPORTED_MODEL,
        () -> open(TinyGguf.of("llama").text("general.architecture", "gpt_oss")).close(),
        "\"gpt_oss\"",
        "llama, mistral, qwen2, qwen3");
    assertFault(TinyGguf.of("qwen2").uint32("qwen2.expert_count", 8), "qwen2.expert_count");
    assertFault(TinyGguf.of("llama").remove("llama.block_count"), "llama.block_count is missing");
    assertFault(TinyGguf.of("llama").uint32("llama.block_count", 2), "tensor blk.1.", "missing");
    assertFault(TinyGguf.of("llama").uint32("llama.block_count", 1 << 30), "llama.block_count");
    assertFault(TinyGguf.of("llama").uint32("llama.block_count", -1), "llama.block_count");
    assertFault(TinyGguf.of("llama").uint32("llama.attention.head_count", 0), "head_count");
    assertFault(TinyGguf.of("llama").uint32("llama.attention.head_count_kv", 3), "head_count_kv");
    assertFault(TinyGguf.of("llama").int32s("llama.attention.head_count_kv", 1, 2), "differs");
    assertFault(TinyGguf.of("llama").text("llama.embedding_length", "x"), "embedding_length");
    assertFault(TinyGguf.of("llama").uint32("llama.feed_forward_length", 40), "ffn_gate", "[40");
    assertFault(TinyGguf.of("llama").float32("llama.rope.freq_base", Float.NaN), "freq_base");
    assertFault(TinyGguf.of("llama").removeTensor("blk.0.ffn_up.weight"), "blk.0.ffn_up.weight");
    assertFault(TinyGguf.of("llama").removeTensor("token_embd.weight"), "token_embd.weight");
    assertFault(
        TinyGguf.of("llama").floats("blk.0.surprise", new long[] {4}),
        "blk.0.surprise",
        "no parameter");
    assertFault(
        TinyGguf.of("llama").zeros("output_norm.weight", 8, DType.Q8_0, 32), "output_norm.weight");
    assertFault(TinyGguf.of("llama").uint32("tokenizer.ggml.bos_token_id", 6), "bos_token_id");
    assertFault(TinyGguf.of("llama").int32s("tokenizer.ggml.token_type", 1), "token_type");
    assertFault(TinyGguf.of("llama").remove("tokenizer.ggml.merges"), "merges is missing");
  }
}
