package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.Activation;
import io.infinilora.core.DType;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.ModelSpec.Attention;
import io.infinilora.core.ModelSpec.Mlp;
import io.infinilora.core.ModelSpec.Moe;
import io.infinilora.core.ModelSpec.Norm;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.TextAssets;
import io.infinilora.core.WeightMatrix;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Param;
import java.lang.foreign.Arena;
import java.util.List;
import org.junit.jupiter.api.Test;

class ModelReportTest {

  private static final int HIDDEN = 64;
  private static final int INNER = 32;
  private static final int EXPERTS = 4;

  private static final ModelSpec SPEC =
      new ModelSpec(
          "gpt_oss",
          2,
          HIDDEN,
          10,
          128,
          new Attention(4, 2, 16, true, true, false, true, 0, List.of(8, 0)),
          new Mlp(INNER, Activation.SWIGLU_CLAMPED, new Moe(EXPERTS, 3, false, true, true, true)),
          Norm.RMS,
          1e-5,
          RopeSpec.plain(10000),
          false,
          -1,
          List.of());

  /** BF16, but for experts in FP4 with one byte of scale per 32 elements. */
  private static final class FakeCheckpoint implements Checkpoint {

    private static TensorView tensor(DType type, long... shape) {
      long elements = 1;
      for (long size : shape) {
        elements *= size;
      }
      return new TensorView(
          "x", type, shape, Arena.ofAuto().allocate(type.bytes(elements)), "file");
    }

    @Override
    public ModelSpec spec() {
      return SPEC;
    }

    @Override
    public TextAssets text() {
      return TextAssets.none();
    }

    @Override
    public WeightMatrix matrix(Param param, int layer) {
      int rows =
          switch (param) {
            case EMBEDDING, LM_HEAD -> 10;
            case Q, O -> 64;
            case K, V -> 32;
            case ROUTER -> EXPERTS;
            default -> throw new AssertionError(param);
          };
      return WeightMatrix.of(tensor(DType.BF16, rows, HIDDEN));
    }

    /** Views of tensors that hold all experts, as in the files of gpt_oss. */
    @Override
    public WeightMatrix matrix(Param param, int layer, int expert) {
      int rows = param == Param.DOWN ? HIDDEN : INNER;
      int cols = param == Param.DOWN ? INNER : HIDDEN;
      TensorView all = tensor(DType.FP4, EXPERTS, rows, cols);
      TensorView scales = tensor(DType.U8, EXPERTS, rows, cols / 32);
      return WeightMatrix.scaled(all, scales).rows(expert * rows, 1, rows);
    }

    @Override
    public TensorView vector(Param param, int layer) {
      return switch (param) {
        case FINAL_NORM, ATTENTION_NORM, MLP_NORM, Q_BIAS, O_BIAS -> tensor(DType.BF16, HIDDEN);
        case K_BIAS, V_BIAS -> tensor(DType.BF16, 32);
        case SINKS, ROUTER_BIAS -> tensor(DType.BF16, 4);
        default -> throw new AssertionError(param);
      };
    }

    @Override
    public TensorView vector(Param param, int layer, int expert) {
      return tensor(DType.BF16, param == Param.DOWN_BIAS ? HIDDEN : INNER);
    }

    @Override
    public String describe() {
      return "fake";
    }

    @Override
    public void close() {}
  }

  @Test
  void countsWhatATokenGoesThrough() {
    ModelReport report = ModelReport.of(new FakeCheckpoint());
    long outside = 2 * 10 * HIDDEN + HIDDEN;
    long attention = 2 * HIDDEN + 192 * HIDDEN + 64 + 32 + 32 + 64 + 4;
    long router = EXPERTS * HIDDEN + EXPERTS;
    long matrices = 3 * HIDDEN * INNER;
    long biases = HIDDEN + 2 * INNER;
    long common = attention + router;
    assertThat(report.parameters())
        .isEqualTo(outside + 2 * (common + EXPERTS * (matrices + biases)));
    assertThat(report.activeParameters())
        .isEqualTo(outside + 2 * (common + 3 * (matrices + biases)));
    assertThat(report.bytesByType())
        .containsEntry("FP4", 2 * EXPERTS * (matrices / 2 + matrices / 32))
        .containsEntry("BF16", 2 * (outside + 2 * (common + EXPERTS * biases)))
        .hasSize(2);
    assertThat(report.bytesByLayer()).hasSize(2);
    assertThat(report.bytes())
        .isEqualTo(report.bytesByType().values().stream().mapToLong(Long::longValue).sum());
    assertThat(report.bytesOutsideLayers()).isEqualTo(2 * outside);
    assertThat(report.kvBytesPerToken()).isEqualTo(2 * 2 * 32 * 4);
    assertThat(report.slidingWindow()).isEqualTo(8);
    assertThat(report.tokenizer()).isNull();
  }
}
