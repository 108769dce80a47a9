package io.infinilora.weights;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec.Mlp;
import io.infinilora.core.ModelSpec.Moe;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/** Qwen3-MoE: qwen3 with experts in every layer. Files that mix in dense layers are refused. */
final class Qwen3MoeArchitecture extends Qwen3Architecture {

  @Override
  public String modelType() {
    return "qwen3_moe";
  }

  @Override
  public Optional<String> ggufName() {
    return Optional.of("qwen3moe");
  }

  @Override
  public boolean routed() {
    return true;
  }

  @Override
  Defaults defaults(int heads, int hidden) {
    return new Defaults(4, hidden / heads, 32768, 1e-6, 10000);
  }

  /** All layers slide or none; {@code max_window_layers} means nothing here. */
  @Override
  List<Integer> windows(JsonFields config, int layers) {
    boolean slides = config.flag("use_sliding_window", false) && config.has("sliding_window");
    return everyLayer(slides ? window(config, "sliding_window") : 0, layers);
  }

  @Override
  Mlp mlp(JsonFields config, SpecLimits limits) {
    if (!config.integers("mlp_only_layers").isEmpty()) {
      throw config.bad("mlp_only_layers", "names dense layers: not supported");
    }
    int step = config.integer("decoder_sparse_step", 1);
    if (step != 1) {
      throw config.bad("decoder_sparse_step", "is " + step + "; only 1 is supported");
    }
    int experts = experts(config, "num_experts", "num_local_experts", limits);
    int topK = topK(config, "num_experts_per_tok", experts, limits);
    boolean normalise = config.flag("norm_topk_prob", false);
    return new Mlp(
        width(config, "moe_intermediate_size", limits),
        Activation.SWIGLU,
        new Moe(experts, topK, true, normalise, false, false));
  }

  @Override
  Mlp mlp(GgufMetadata metadata, String prefix, SpecLimits limits) {
    return new Mlp(
        width(metadata, prefix + "expert_feed_forward_length", limits),
        Activation.SWIGLU,
        softmaxFirst(metadata, prefix, limits));
  }

  @Override
  public TensorLayout hfLayout(JsonFields config, Set<String> tensors) {
    return ExpertLayouts.hf(tensors, ExpertLayouts.HF_QWEN);
  }
}
