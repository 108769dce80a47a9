package io.infinilora.weights;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec.Mlp;
import io.infinilora.core.ModelSpec.Moe;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * GPT-OSS: attention with sinks and a sliding window on every other layer, biases everywhere, the
 * softmax of the router after the choice. Published as MXFP4 blocks and scales; fine-tuned copies
 * are plain, and then transposed.
 */
final class GptOssArchitecture extends LlamaFamilyArchitecture {

  private static final String MXFP4 = "mxfp4";

  /** The bound of the activation, which {@link Activation#SWIGLU_CLAMPED} fixes. */
  private static final double SWIGLU_LIMIT = 7;

  private static final int DEFAULT_WINDOW = 128;

  private static final String EXPERTS = "model.layers.%d.mlp.experts.";

  private static final TensorPlace GATE_UP =
      TensorPlace.of(EXPERTS + "gate_up_proj").asTransposed().interleaved(Param.GATE, Param.UP);
  private static final TensorPlace GATE_UP_BLOCKS =
      TensorPlace.of(EXPERTS + "gate_up_proj_blocks")
          .scaledBy(EXPERTS + "gate_up_proj_scales")
          .interleaved(Param.GATE, Param.UP);
  private static final TensorPlace GATE_UP_BIAS =
      TensorPlace.of(EXPERTS + "gate_up_proj_bias").interleaved(Param.GATE_BIAS, Param.UP_BIAS);

  private static final TensorLayout HF =
      LlamaLayouts.HF
          .withNames(
              Map.of(
                  Param.SINKS, "model.layers.%d.self_attn.sinks",
                  Param.ROUTER, "model.layers.%d.mlp.router.weight",
                  Param.ROUTER_BIAS, "model.layers.%d.mlp.router.bias",
                  Param.DOWN_BIAS, EXPERTS + "down_proj_bias"))
          .with(
              Map.of(
                  Param.GATE, GATE_UP,
                  Param.UP, GATE_UP,
                  Param.DOWN, TensorPlace.of(EXPERTS + "down_proj").asTransposed(),
                  Param.GATE_BIAS, GATE_UP_BIAS,
                  Param.UP_BIAS, GATE_UP_BIAS));

  private static final TensorLayout HF_MXFP4 =
      HF.with(
          Map.of(
              Param.GATE, GATE_UP_BLOCKS,
              Param.UP, GATE_UP_BLOCKS,
              Param.DOWN,
                  TensorPlace.of(EXPERTS + "down_proj_blocks")
                      .scaledBy(EXPERTS + "down_proj_scales")));

  @Override
  public String modelType() {
    return "gpt_oss";
  }

  @Override
  public Optional<String> ggufName() {
    return Optional.of("gpt-oss");
  }

  @Override
  public boolean routed() {
    return true;
  }

  @Override
  public Optional<String> quantMethod() {
    return Optional.of(MXFP4);
  }

  @Override
  Defaults defaults(int heads, int hidden) {
    return new Defaults(8, 64, 131072, 1e-5, 150000);
  }

  @Override
  AttentionExtras extras(JsonFields config) {
    boolean bias = config.flag("attention_bias", true);
    return new AttentionExtras(bias, bias, false, true, 0);
  }

  @Override
  AttentionExtras extras(GgufFile file) {
    return new AttentionExtras(true, true, false, true, 0);
  }

  @Override
  List<Integer> windows(JsonFields config, int layers) {
    if (config.contains("sliding_window") && !config.has("sliding_window")) {
      return everyLayer(0, layers);
    }
    int window = config.has("sliding_window") ? window(config, "sliding_window") : DEFAULT_WINDOW;
    List<String> types = layerTypes(config, layers);
    if (types.isEmpty()) {
      return evenLayers(window, layers);
    }
    return types.stream().map(type -> slides(config, type) ? window : 0).toList();
  }

  @Override
  List<Integer> windows(GgufMetadata metadata, String prefix, int layers) {
    String pattern = prefix + "attention.sliding_window_pattern";
    if (metadata.integer(pattern, 2) != 2) {
      throw metadata.bad(pattern, "is not 2: not supported");
    }
    String key = prefix + "attention.sliding_window";
    int window = metadata.integer(key);
    if (window < 1) {
      throw metadata.bad(key, "is " + window + ", but must be positive");
    }
    return evenLayers(window, layers);
  }

  private static List<Integer> evenLayers(int window, int layers) {
    List<Integer> windows = new ArrayList<>();
    for (int layer = 0; layer < layers; layer++) {
      windows.add(layer % 2 == 0 ? window : 0);
    }
    return windows;
  }

  /** The published configurations do not round, and the converter does not say. */
  @Override
  boolean yarnTruncates() {
    return false;
  }

  @Override
  Mlp mlp(JsonFields config, SpecLimits limits) {
    double limit = config.number("swiglu_limit", SWIGLU_LIMIT);
    if (limit != SWIGLU_LIMIT) {
      throw config.bad("swiglu_limit", "is " + limit + "; only " + SWIGLU_LIMIT + " is supported");
    }
    if (!config.has("rope_scaling") && !config.has("rope_parameters")) {
      throw config.bad("rope_scaling", "is missing, and rope_parameters as well");
    }
    int experts = experts(config, "num_local_experts", "num_experts", limits);
    String key = config.has("num_experts_per_tok") ? "num_experts_per_tok" : "experts_per_token";
    int topK = topK(config, key, experts, limits);
    return clamped(width(config, "intermediate_size", limits), experts, topK);
  }

  @Override
  Mlp mlp(GgufMetadata metadata, String prefix, SpecLimits limits) {
    Moe moe = softmaxFirst(metadata, prefix, limits);
    int inner = width(metadata, prefix + "expert_feed_forward_length", limits);
    return clamped(inner, moe.experts(), moe.topK());
  }

  private static Mlp clamped(int inner, int experts, int topK) {
    return new Mlp(
        inner, Activation.SWIGLU_CLAMPED, new Moe(experts, topK, false, true, true, true));
  }

  @Override
  public TensorLayout hfLayout(JsonFields config, Set<String> tensors) {
    return config.has("quantization_config") ? HF_MXFP4 : HF;
  }

  @Override
  public TensorLayout ggufLayout(Set<String> tensors) {
    return super.ggufLayout(tensors)
        .withNames(
            Map.of(
                Param.MLP_NORM, "blk.%d.post_attention_norm.weight",
                Param.SINKS, "blk.%d.attn_sinks.weight"));
  }
}
