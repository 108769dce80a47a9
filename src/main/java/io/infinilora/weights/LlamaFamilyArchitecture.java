package io.infinilora.weights;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.ModelSpec.Mlp;
import java.util.List;
import java.util.Set;

/**
 * Architectures whose {@code config.json} has the fields that llama introduced. Subclasses say
 * where they differ.
 */
abstract class LlamaFamilyArchitecture extends DecoderArchitecture {

  /** Values that the architecture's published configurations leave out. */
  record Defaults(int kvHeads, int headDim, int maxPositions, double normEps, double ropeTheta) {}

  /** What to assume for absent fields. */
  abstract Defaults defaults(int heads, int hidden);

  /** What a {@code config.json} says about the attention block. */
  abstract AttentionExtras extras(JsonFields config);

  /** The sliding window of each layer, 0 for full attention. */
  abstract List<Integer> windows(JsonFields config, int layers);

  /** The feed-forward block. */
  Mlp mlp(JsonFields config, SpecLimits limits) {
    return new Mlp(width(config, "intermediate_size", limits), Activation.SWIGLU, null);
  }

  @Override
  public ModelSpec fromConfig(JsonFields config, SpecialTokens tokens) {
    if (config.flag("mlp_bias", false)) {
      throw config.bad("mlp_bias", "true is not supported");
    }
    String activation = config.text("hidden_act").orElse("silu");
    if (!activation.equals("silu")) {
      throw config.bad("hidden_act", "is \"" + activation + "\"; supported is silu");
    }
    int layers = config.integer("num_hidden_layers");
    int hidden = config.integer("hidden_size");
    int heads = config.integer("num_attention_heads");
    SpecLimits limits = new SpecLimits(config::bad);
    limits.layers("num_hidden_layers", layers);
    limits.width("hidden_size", hidden);
    limits.width("num_attention_heads", heads);
    Defaults defaults = defaults(heads, hidden);
    int kvHeads = config.integer("num_key_value_heads", defaults.kvHeads());
    limits.kvHeads("num_key_value_heads", kvHeads, heads);
    int headDim = config.integer("head_dim", defaults.headDim());
    limits.headDim("head_dim", headDim, heads);
    int vocab = config.integer("vocab_size");
    limits.vocab("vocab_size", vocab);
    int maxPositions = config.integer("max_position_embeddings", defaults.maxPositions());
    limits.positive("max_position_embeddings", maxPositions);
    double eps = config.number("rms_norm_eps", defaults.normEps());
    limits.epsilon("rms_norm_eps", eps);
    AttentionExtras extras = extras(config);
    return new ModelSpec(
        modelType(),
        layers,
        hidden,
        vocab,
        maxPositions,
        attention(heads, kvHeads, headDim, extras, windows(config, layers)),
        mlp(config, limits),
        norm(),
        eps,
        HfRope.read(config, maxPositions, defaults.ropeTheta()),
        config.flag("tie_word_embeddings", false),
        tokens.bos(),
        tokens.eos());
  }

  /** A width from the configuration, within limits. */
  static int width(JsonFields config, String key, SpecLimits limits) {
    int width = config.integer(key);
    limits.width(key, width);
    return width;
  }

  /** A number of experts, under the architecture's usual name or another that is in use. */
  static int experts(JsonFields config, String usual, String other, SpecLimits limits) {
    String key = config.has(usual) || !config.has(other) ? usual : other;
    int experts = config.integer(key);
    limits.experts(key, experts);
    return experts;
  }

  /** Experts per token. */
  static int topK(JsonFields config, String key, int experts, SpecLimits limits) {
    int topK = config.integer(key);
    limits.topK(key, topK, experts);
    return topK;
  }

  /** A sliding window that must be positive. */
  static int window(JsonFields config, String key) {
    int window = config.integer(key);
    if (window < 1) {
      throw config.bad(key, "is " + window + ", but must be positive");
    }
    return window;
  }

  /** Whether a layer of this entry in {@code layer_types} slides. */
  static boolean slides(JsonFields config, String type) {
    return switch (type) {
      case "sliding_attention" -> true;
      case "full_attention" -> false;
      default -> throw config.bad("layer_types", "has the unknown type \"" + type + "\"");
    };
  }

  /** The entries of {@code layer_types}, one per layer, or none. */
  static List<String> layerTypes(JsonFields config, int layers) {
    List<String> types = config.texts("layer_types");
    if (!types.isEmpty() && types.size() != layers) {
      throw config.bad("layer_types", "has " + types.size() + " entries for " + layers + " layers");
    }
    return types;
  }

  @Override
  public TensorLayout hfLayout(JsonFields config, Set<String> tensors) {
    return LlamaLayouts.HF;
  }
}
