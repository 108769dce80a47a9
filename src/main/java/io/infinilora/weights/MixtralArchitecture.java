package io.infinilora.weights;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec.Mlp;
import io.infinilora.core.ModelSpec.Moe;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/** Mixtral: llama with experts in the place of the MLP. Its GGUF files say llama. */
final class MixtralArchitecture extends LlamaArchitecture {

  @Override
  public String modelType() {
    return "mixtral";
  }

  @Override
  public Optional<String> ggufName() {
    return Optional.of("llama");
  }

  @Override
  public boolean routed() {
    return true;
  }

  @Override
  Defaults defaults(int heads, int hidden) {
    return new Defaults(8, hidden / heads, 131072, 1e-5, 1e6);
  }

  @Override
  AttentionExtras extras(JsonFields config) {
    return AttentionExtras.biases(false, false);
  }

  @Override
  List<Integer> windows(JsonFields config, int layers) {
    return everyLayer(config.has("sliding_window") ? window(config, "sliding_window") : 0, layers);
  }

  @Override
  Mlp mlp(JsonFields config, SpecLimits limits) {
    int experts = experts(config, "num_local_experts", "num_experts", limits);
    int topK = topK(config, "num_experts_per_tok", experts, limits);
    return new Mlp(
        width(config, "intermediate_size", limits),
        Activation.SWIGLU,
        new Moe(experts, topK, true, true, false, false));
  }

  @Override
  Mlp mlp(GgufMetadata metadata, String prefix, SpecLimits limits) {
    return new Mlp(
        width(metadata, prefix + "feed_forward_length", limits),
        Activation.SWIGLU,
        softmaxFirst(metadata, prefix, limits));
  }

  @Override
  public TensorLayout hfLayout(JsonFields config, Set<String> tensors) {
    return ExpertLayouts.hf(tensors, ExpertLayouts.HF_MIXTRAL);
  }
}
