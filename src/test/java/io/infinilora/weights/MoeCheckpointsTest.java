package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import io.infinilora.core.Activation;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.ModelSpec.Moe;
import io.infinilora.core.ModelSpec.Norm;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;

/** The checkpoints of the reference fixtures with experts: what they are, and every element. */
class MoeCheckpointsTest {

  /** The element of the file that element (i, j) of a matrix must be. */
  private interface Source {
    float at(int i, int j);
  }

  private static void with(String fixture, Consumer<Checkpoint> checks) {
    try (Checkpoint checkpoint = Checkpoints.open(TinyModel.FIXTURES.resolve(fixture))) {
      checks.accept(checkpoint);
    }
  }

  private static RawTensors raw(String fixture) {
    return new RawTensors(TinyModel.FIXTURES.resolve(fixture).resolve("model.safetensors"));
  }

  private static void assertSame(WeightMatrix matrix, int rows, int cols, Source source) {
    assertThat(matrix.rows()).isEqualTo(rows);
    assertThat(matrix.cols()).isEqualTo(cols);
    for (int i = 0; i < rows; i++) {
      for (int j = 0; j < cols; j++) {
        assertThat(RawTensors.element(matrix, i, j)).as("%d,%d", i, j).isEqualTo(source.at(i, j));
      }
    }
  }

  private static void assertSame(TensorView vector, int size, Source source) {
    assertThat(vector.shape()).containsExactly(size);
    for (int i = 0; i < size; i++) {
      assertThat(RawTensors.element(vector, i)).as("%d", i).isEqualTo(source.at(i, 0));
    }
  }

  @Test
  void describesMixtral() {
    with(
        "mixtral",
        checkpoint -> {
          ModelSpec spec = checkpoint.spec();
          assertThat(spec.architecture()).isEqualTo("mixtral");
          assertThat(spec.mlp())
              .isEqualTo(
                  new ModelSpec.Mlp(
                      40, Activation.SWIGLU, new Moe(8, 2, true, true, false, false)));
          assertThat(spec.attention().headDim()).isEqualTo(12);
          assertThat(spec.attention().windows()).containsExactly(0, 0);
          assertThat(spec.rope()).isEqualTo(RopeSpec.plain(1e6));
          assertThat(spec.norm()).isEqualTo(Norm.RMS);
          assertThat(spec.normEps()).isEqualTo(1e-5);
        });
  }

  @Test
  void mixtralHasATensorPerExpert() {
    RawTensors raw = raw("mixtral");
    with(
        "mixtral",
        checkpoint -> {
          for (int layer = 0; layer < 2; layer++) {
            String block = "model.layers." + layer + ".block_sparse_moe.";
            assertSame(
                checkpoint.matrix(Param.ROUTER, layer),
                8,
                48,
                (i, j) -> raw.at(block + "gate.weight", i, j));
            for (int e = 0; e < 8; e++) {
              String expert = block + "experts." + e + ".";
              assertSame(
                  checkpoint.matrix(Param.GATE, layer, e),
                  40,
                  48,
                  (i, j) -> raw.at(expert + "w1.weight", i, j));
              assertSame(
                  checkpoint.matrix(Param.DOWN, layer, e),
                  48,
                  40,
                  (i, j) -> raw.at(expert + "w2.weight", i, j));
              assertSame(
                  checkpoint.matrix(Param.UP, layer, e),
                  40,
                  48,
                  (i, j) -> raw.at(expert + "w3.weight", i, j));
            }
          }
        });
  }

  @Test
  void qwen3MoeHasATensorPerExpert() {
    RawTensors raw = raw("qwen3_moe");
    with(
        "qwen3_moe",
        checkpoint -> {
          ModelSpec spec = checkpoint.spec();
          assertThat(spec.architecture()).isEqualTo("qwen3_moe");
          assertThat(spec.mlp())
              .isEqualTo(
                  new ModelSpec.Mlp(
                      24, Activation.SWIGLU, new Moe(16, 4, true, true, false, false)));
          assertThat(spec.attention().qkNorm()).isTrue();
          assertThat(spec.attention().qWidth()).isEqualTo(64);
          for (int e = 0; e < 16; e++) {
            String expert = "model.layers.1.mlp.experts." + e + ".";
            assertSame(
                checkpoint.matrix(Param.GATE, 1, e),
                24,
                48,
                (i, j) -> raw.at(expert + "gate_proj.weight", i, j));
            assertSame(
                checkpoint.matrix(Param.UP, 1, e),
                24,
                48,
                (i, j) -> raw.at(expert + "up_proj.weight", i, j));
            assertSame(
                checkpoint.matrix(Param.DOWN, 1, e),
                48,
                24,
                (i, j) -> raw.at(expert + "down_proj.weight", i, j));
          }
          assertSame(
              checkpoint.matrix(Param.ROUTER, 1),
              16,
              48,
              (i, j) -> raw.at("model.layers.1.mlp.gate.weight", i, j));
        });
  }

  @Test
  void describesGptOss() {
    with(
        "gpt_oss",
        checkpoint -> {
          ModelSpec spec = checkpoint.spec();
          assertThat(spec.architecture()).isEqualTo("gpt_oss");
          assertThat(spec.mlp())
              .isEqualTo(
                  new ModelSpec.Mlp(
                      36, Activation.SWIGLU_CLAMPED, new Moe(8, 2, false, true, true, true)));
          ModelSpec.Attention attention = spec.attention();
          assertThat(attention.windows()).containsExactly(8, 0);
          assertThat(attention.sinks()).isTrue();
          assertThat(attention.qkvBias()).isTrue();
          assertThat(attention.outBias()).isTrue();
          assertThat(spec.rope())
              .isEqualTo(
                  new RopeSpec(
                      150000, new RopeSpec.Yarn(8, 32, 1, 256, 0.1 * Math.log(8) + 1, false)));
          assertThat(spec.maxPositions()).isEqualTo(2048);
        });
  }

  @Test
  void gptOssInterleavesGateAndUpAndTransposesThem() {
    RawTensors raw = raw("gpt_oss");
    with(
        "gpt_oss",
        checkpoint -> {
          for (int layer = 0; layer < 2; layer++) {
            String mlp = "model.layers." + layer + ".mlp.";
            String experts = mlp + "experts.";
            for (int e = 0; e < 8; e++) {
              int expert = e;
              assertSame(
                  checkpoint.matrix(Param.GATE, layer, e),
                  36,
                  48,
                  (i, j) -> raw.at(experts + "gate_up_proj", expert, j, 2 * i));
              assertSame(
                  checkpoint.matrix(Param.UP, layer, e),
                  36,
                  48,
                  (i, j) -> raw.at(experts + "gate_up_proj", expert, j, 2 * i + 1));
              assertSame(
                  checkpoint.matrix(Param.DOWN, layer, e),
                  48,
                  36,
                  (i, j) -> raw.at(experts + "down_proj", expert, j, i));
              assertSame(
                  checkpoint.vector(Param.GATE_BIAS, layer, e),
                  36,
                  (i, j) -> raw.at(experts + "gate_up_proj_bias", expert, 2 * i));
              assertSame(
                  checkpoint.vector(Param.UP_BIAS, layer, e),
                  36,
                  (i, j) -> raw.at(experts + "gate_up_proj_bias", expert, 2 * i + 1));
              assertSame(
                  checkpoint.vector(Param.DOWN_BIAS, layer, e),
                  48,
                  (i, j) -> raw.at(experts + "down_proj_bias", expert, i));
            }
            assertSame(
                checkpoint.matrix(Param.ROUTER, layer),
                8,
                48,
                (i, j) -> raw.at(mlp + "router.weight", i, j));
            assertSame(
                checkpoint.vector(Param.ROUTER_BIAS, layer),
                8,
                (i, j) -> raw.at(mlp + "router.bias", i));
            String sinks = "model.layers." + layer + ".self_attn.sinks";
            assertSame(checkpoint.vector(Param.SINKS, layer), 4, (i, j) -> raw.at(sinks, i));
          }
        });
  }

  @Test
  void describesDbrx() {
    with(
        "dbrx",
        checkpoint -> {
          ModelSpec spec = checkpoint.spec();
          assertThat(spec.architecture()).isEqualTo("dbrx");
          assertThat(spec.layers()).isEqualTo(2);
          assertThat(spec.hidden()).isEqualTo(48);
          assertThat(spec.maxPositions()).isEqualTo(256);
          assertThat(spec.attention().kvHeads()).isEqualTo(2);
          assertThat(spec.attention().headDim()).isEqualTo(12);
          assertThat((double) spec.attention().clipQkv()).isEqualTo(1.5, within(1e-9));
          assertThat(spec.norm()).isEqualTo(Norm.LAYER);
          assertThat(spec.normEps()).isEqualTo(1e-5);
          assertThat(spec.rope()).isEqualTo(RopeSpec.plain(500000));
          assertThat(spec.mlp())
              .isEqualTo(
                  new ModelSpec.Mlp(
                      24, Activation.SWIGLU, new Moe(8, 2, true, true, false, false)));
        });
  }

  @Test
  void dbrxFusesAttentionAndFlattensExperts() {
    RawTensors raw = raw("dbrx");
    with(
        "dbrx",
        checkpoint -> {
          for (int layer = 0; layer < 2; layer++) {
            String block = "transformer.blocks." + layer + ".";
            String qkv = block + "norm_attn_norm.attn.Wqkv.weight";
            assertSame(checkpoint.matrix(Param.Q, layer), 48, 48, (i, j) -> raw.at(qkv, i, j));
            assertSame(checkpoint.matrix(Param.K, layer), 24, 48, (i, j) -> raw.at(qkv, 48 + i, j));
            assertSame(checkpoint.matrix(Param.V, layer), 24, 48, (i, j) -> raw.at(qkv, 72 + i, j));
            String mlp = block + "ffn.experts.mlp.";
            for (int e = 0; e < 8; e++) {
              int first = 24 * e;
              assertSame(
                  checkpoint.matrix(Param.GATE, layer, e),
                  24,
                  48,
                  (i, j) -> raw.at(mlp + "w1", first + i, j));
              assertSame(
                  checkpoint.matrix(Param.UP, layer, e),
                  24,
                  48,
                  (i, j) -> raw.at(mlp + "v1", first + i, j));
              assertSame(
                  checkpoint.matrix(Param.DOWN, layer, e),
                  48,
                  24,
                  (i, j) -> raw.at(mlp + "w2", first + j, i));
            }
            assertSame(
                checkpoint.matrix(Param.ROUTER, layer),
                8,
                48,
                (i, j) -> raw.at(block + "ffn.router.layer.weight", i, j));
            assertSame(
                checkpoint.vector(Param.MLP_NORM, layer),
                48,
                (i, j) -> raw.at(block + "norm_attn_norm.norm_2.weight", i));
          }
        });
  }

  @Test
  void noExpertHasWhatAllShareAndTheOtherWayRound() {
    with(
        "mixtral",
        checkpoint -> {
          Faults.assertFault(
              ErrorCode.BAD_MODEL_FILE,
              () -> checkpoint.matrix(Param.GATE, 0),
              "has no matrix GATE in layer 0");
          Faults.assertFault(
              ErrorCode.BAD_MODEL_FILE,
              () -> checkpoint.matrix(Param.GATE, 0, 8),
              "has no matrix GATE of expert 8 in layer 0");
          Faults.assertFault(
              ErrorCode.BAD_MODEL_FILE,
              () -> checkpoint.vector(Param.DOWN_BIAS, 1, 0),
              "has no vector DOWN_BIAS of expert 0 in layer 1");
        });
  }
}
