package io.infinilora.weights;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.ModelSpec.Attention;
import io.infinilora.core.ModelSpec.Mlp;
import io.infinilora.core.ModelSpec.Moe;
import io.infinilora.core.ModelSpec.Norm;
import io.infinilora.core.RopeSpec;
import java.util.Collections;
import java.util.List;

/**
 * Small models with experts: two layers, two query heads and one key head unless told otherwise.
 */
final class MoeSpecs {

  private MoeSpecs() {}

  /** The models of {@code make_adapters.py}. */
  static ModelSpec generated(String architecture, int inner) {
    return of(architecture, 16, new int[] {2, 1, 8}, inner, 4);
  }

  /** The model of a reference fixture. */
  static ModelSpec fixture(String architecture) {
    return switch (architecture) {
      case "mixtral" -> of(architecture, 48, new int[] {4, 2, 12}, 40, 8);
      case "qwen3_moe" -> of(architecture, 48, new int[] {4, 2, 16}, 24, 16);
      case "gpt_oss" -> of(architecture, 48, new int[] {4, 2, 16}, 36, 8);
      case "dbrx" -> of(architecture, 48, new int[] {4, 2, 12}, 24, 8);
      default -> throw new IllegalArgumentException(architecture);
    };
  }

  /**
   * A model of two layers.
   *
   * @param attention query heads, key heads and elements of a head
   */
  static ModelSpec of(String architecture, int hidden, int[] attention, int inner, int experts) {
    boolean gptOss = architecture.equals("gpt_oss");
    return new ModelSpec(
        architecture,
        2,
        hidden,
        8,
        32,
        new Attention(
            attention[0],
            attention[1],
            attention[2],
            gptOss,
            gptOss,
            architecture.equals("qwen3_moe"),
            gptOss,
            0,
            Collections.nCopies(2, 0)),
        new Mlp(inner, Activation.SWIGLU, new Moe(experts, 2, !gptOss, true, gptOss, gptOss)),
        architecture.equals("dbrx") ? Norm.LAYER : Norm.RMS,
        1e-5,
        RopeSpec.plain(10000),
        false,
        1,
        List.of(2));
  }
}
