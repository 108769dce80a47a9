package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.DType;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.RopeSpec;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;

/** The checkpoints of the reference fixtures, as they were published. */
class CheckpointsTest {

  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");

  private static Checkpoint open(String fixture) {
    return Checkpoints.open(FIXTURES.resolve(fixture));
  }

  @Test
  void llamaHasTiedEmbeddingsAndGroupedQueries() {
    try (Checkpoint checkpoint = open("llama")) {
      ModelSpec spec = checkpoint.spec();
      assertThat(spec.architecture()).isEqualTo("llama");
      assertThat(spec.layers()).isEqualTo(2);
      assertThat(spec.hidden()).isEqualTo(64);
      assertThat(spec.vocab()).isEqualTo(512);
      assertThat(spec.maxPositions()).isEqualTo(256);
      assertThat(spec.attention().heads()).isEqualTo(4);
      assertThat(spec.attention().kvHeads()).isEqualTo(2);
      assertThat(spec.attention().headDim()).isEqualTo(16);
      assertThat(spec.attention().windows()).containsExactly(0, 0);
      assertThat(spec.mlp().intermediate()).isEqualTo(128);
      assertThat(spec.mlp().moe()).isNull();
      assertThat(spec.normEps()).isEqualTo(1e-5);
      assertThat(spec.rope()).isEqualTo(RopeSpec.plain(10000));
      assertThat(spec.bosToken()).isEqualTo(1);
      assertThat(spec.eosTokens()).containsExactly(2);
      assertThat(spec.tiedEmbeddings()).isTrue();
      assertThat(checkpoint.matrix(Param.LM_HEAD, 0))
          .isEqualTo(checkpoint.matrix(Param.EMBEDDING, 0));
      assertThat(checkpoint.matrix(Param.Q, 1).rowOrder()).isNull();
      assertThat(checkpoint.matrix(Param.DOWN, 1).tensor().name())
          .isEqualTo("model.layers.1.mlp.down_proj.weight");
      assertThat(checkpoint.text().tokenizerJson()).isEmpty();
      assertThat(checkpoint.describe()).contains("llama", "safetensors");
    }
  }

  @Test
  void llama3ScalesItsFrequencies() {
    try (Checkpoint checkpoint = open("llama3_rope")) {
      assertThat(checkpoint.spec().rope())
          .isEqualTo(new RopeSpec(10000, new RopeSpec.Llama3(8, 1, 4, 64)));
      assertThat(checkpoint.spec().attention().kvHeads()).isEqualTo(1);
      assertThat(checkpoint.spec().tiedEmbeddings()).isFalse();
      assertThat(checkpoint.matrix(Param.LM_HEAD, 0).tensor().name()).isEqualTo("lm_head.weight");
    }
  }

  @Test
  void mistralSlidesOnEveryLayer() {
    try (Checkpoint checkpoint = open("mistral")) {
      assertThat(checkpoint.spec().attention().windows()).isEqualTo(List.of(8, 8));
    }
  }

  @Test
  void qwen2HasBiasesAndAnUnusedWindow() {
    try (Checkpoint checkpoint = open("qwen2")) {
      ModelSpec.Attention attention = checkpoint.spec().attention();
      assertThat(attention.qkvBias()).isTrue();
      assertThat(attention.outBias()).isFalse();
      assertThat(attention.windows()).containsExactly(0, 0);
      assertThat(attention.headDim()).isEqualTo(12);
      assertThat(checkpoint.vector(Param.K_BIAS, 1).elements()).isEqualTo(24);
      assertThat(checkpoint.vector(Param.K_BIAS, 1).dtype()).isEqualTo(DType.BF16);
    }
  }

  @Test
  void qwen3HasHeadNormsAndItsOwnHeadSize() {
    try (Checkpoint checkpoint = open("qwen3")) {
      ModelSpec spec = checkpoint.spec();
      assertThat(spec.attention().qkNorm()).isTrue();
      assertThat(spec.attention().qkvBias()).isFalse();
      assertThat(spec.attention().headDim()).isEqualTo(24);
      assertThat(spec.attention().qWidth()).isEqualTo(96);
      assertThat(spec.rope()).isEqualTo(RopeSpec.plain(1e6));
      assertThat(checkpoint.vector(Param.Q_NORM, 0).elements()).isEqualTo(24);
      assertThat(checkpoint.matrix(Param.O, 0).cols()).isEqualTo(96);
    }
  }

  @Test
  void closingTwiceIsHarmless() {
    Checkpoint checkpoint = open("llama");
    checkpoint.close();
    checkpoint.close();
  }
}
