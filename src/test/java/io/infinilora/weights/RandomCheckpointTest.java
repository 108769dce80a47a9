package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.DType;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RandomCheckpointTest {
  private static final String CONFIG =
      """
      {"model_type": "qwen3_moe", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
       "num_key_value_heads": 2, "head_dim": 16, "moe_intermediate_size": 24, "intermediate_size": 24,
       "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": true, "vocab_size": 96,
       "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "max_position_embeddings": 128,
       "tie_word_embeddings": false, "eos_token_id": 2}
      """;

  @TempDir private Path directory;

  private Path config(String text) throws IOException {
    return Files.writeString(directory.resolve("config.json"), text);
  }

  private static float value(TensorView view, int i) {
    return Float.intBitsToFloat(
        view.data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i) << 16);
  }

  @Test
  void hasEveryParameterInItsShape() throws IOException {
    try (Checkpoint checkpoint = Checkpoints.random(config(CONFIG), 1)) {
      ModelSpec spec = checkpoint.spec();
      assertThat(spec.layers()).isEqualTo(2);
      for (int layer = 0; layer < 2; layer++) {
        for (Param param : ParamShapes.perLayer(spec)) {
          TensorView view = checkpoint.vector(param, layer);
          assertThat(view.shape()).isEqualTo(ParamShapes.shape(spec, param));
          assertThat(view.dtype()).isEqualTo(DType.BF16);
        }
        WeightMatrix expert = checkpoint.matrix(Param.DOWN, layer, 3);
        assertThat(expert.rows()).isEqualTo(64);
        assertThat(expert.cols()).isEqualTo(24);
      }
      assertThat(value(checkpoint.vector(Param.MLP_NORM, 1), 63)).isEqualTo(1f);
      assertThat(checkpoint.describe()).contains("random weights (seed 1)");
    }
  }

  @Test
  void theSeedDecides() throws IOException {
    Path config = config(CONFIG);
    try (Checkpoint one = Checkpoints.random(config, 7);
        Checkpoint same = Checkpoints.random(config, 7);
        Checkpoint other = Checkpoints.random(config, 8)) {
      TensorView first = one.matrix(Param.GATE, 1, 2).tensor();
      assertThat(first.data().mismatch(same.matrix(Param.GATE, 1, 2).tensor().data()))
          .isEqualTo(-1);
      assertThat(first.data().mismatch(other.matrix(Param.GATE, 1, 2).tensor().data()))
          .isNotEqualTo(-1);
      assertThat(first.data().mismatch(one.matrix(Param.GATE, 1, 3).tensor().data()))
          .isNotEqualTo(-1);
    }
  }

  @Test
  void numbersAreSmallAndCentred() throws IOException {
    try (Checkpoint checkpoint = Checkpoints.random(config(CONFIG), 1)) {
      TensorView table = checkpoint.matrix(Param.EMBEDDING, 0).tensor();
      double sum = 0;
      double squares = 0;
      int count = 64 * 96;
      for (int i = 0; i < count; i++) {
        sum += value(table, i);
        squares += Math.pow(value(table, i), 2);
      }
      assertThat(sum / count).isBetween(-0.002, 0.002);
      assertThat(Math.sqrt(squares / count)).isBetween(0.018, 0.022);
    }
  }

  @Test
  void saysWhatIsWrongWithTheConfiguration() throws IOException {
    Path missing = directory.resolve("missing.json");
    assertThatThrownBy(() -> Checkpoints.random(missing, 1))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageContaining("missing.json");
    Path unknown = config("{\"model_type\": \"gpt2\"}");
    assertThatThrownBy(() -> Checkpoints.random(unknown, 1))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageContaining("gpt2");
  }
}
