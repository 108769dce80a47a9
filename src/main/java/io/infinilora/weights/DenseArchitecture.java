package io.infinilora.weights;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.ModelSpec.Attention;
import io.infinilora.core.ModelSpec.Mlp;
import io.infinilora.core.ModelSpec.Norm;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * What llama and its descendants have in common: pre-norm decoder layers of grouped-query attention
 * and a gated MLP. Subclasses say where they differ.
 */
abstract class DenseArchitecture implements Architecture {

  private static final TensorNames HF_NAMES =
      new TensorNames(
          Map.ofEntries(
              Map.entry(Param.EMBEDDING, "model.embed_tokens.weight"),
              Map.entry(Param.FINAL_NORM, "model.norm.weight"),
              Map.entry(Param.LM_HEAD, "lm_head.weight"),
              Map.entry(Param.ATTENTION_NORM, "model.layers.%d.input_layernorm.weight"),
              Map.entry(Param.Q, "model.layers.%d.self_attn.q_proj.weight"),
              Map.entry(Param.K, "model.layers.%d.self_attn.k_proj.weight"),
              Map.entry(Param.V, "model.layers.%d.self_attn.v_proj.weight"),
              Map.entry(Param.O, "model.layers.%d.self_attn.o_proj.weight"),
              Map.entry(Param.Q_BIAS, "model.layers.%d.self_attn.q_proj.bias"),
              Map.entry(Param.K_BIAS, "model.layers.%d.self_attn.k_proj.bias"),
              Map.entry(Param.V_BIAS, "model.layers.%d.self_attn.v_proj.bias"),
              Map.entry(Param.O_BIAS, "model.layers.%d.self_attn.o_proj.bias"),
              Map.entry(Param.Q_NORM, "model.layers.%d.self_attn.q_norm.weight"),
              Map.entry(Param.K_NORM, "model.layers.%d.self_attn.k_norm.weight"),
              Map.entry(Param.MLP_NORM, "model.layers.%d.post_attention_layernorm.weight"),
              Map.entry(Param.GATE, "model.layers.%d.mlp.gate_proj.weight"),
              Map.entry(Param.UP, "model.layers.%d.mlp.up_proj.weight"),
              Map.entry(Param.DOWN, "model.layers.%d.mlp.down_proj.weight")));

  private static final TensorNames GGUF_NAMES =
      new TensorNames(
          Map.ofEntries(
              Map.entry(Param.EMBEDDING, "token_embd.weight"),
              Map.entry(Param.FINAL_NORM, "output_norm.weight"),
              Map.entry(Param.LM_HEAD, "output.weight"),
              Map.entry(Param.ATTENTION_NORM, "blk.%d.attn_norm.weight"),
              Map.entry(Param.Q, "blk.%d.attn_q.weight"),
              Map.entry(Param.K, "blk.%d.attn_k.weight"),
              Map.entry(Param.V, "blk.%d.attn_v.weight"),
              Map.entry(Param.O, "blk.%d.attn_output.weight"),
              Map.entry(Param.Q_BIAS, "blk.%d.attn_q.bias"),
              Map.entry(Param.K_BIAS, "blk.%d.attn_k.bias"),
              Map.entry(Param.V_BIAS, "blk.%d.attn_v.bias"),
              Map.entry(Param.O_BIAS, "blk.%d.attn_output.bias"),
              Map.entry(Param.Q_NORM, "blk.%d.attn_q_norm.weight"),
              Map.entry(Param.K_NORM, "blk.%d.attn_k_norm.weight"),
              Map.entry(Param.MLP_NORM, "blk.%d.ffn_norm.weight"),
              Map.entry(Param.GATE, "blk.%d.ffn_gate.weight"),
              Map.entry(Param.UP, "blk.%d.ffn_up.weight"),
              Map.entry(Param.DOWN, "blk.%d.ffn_down.weight")));

  /** Which of the optional parameters the attention block has. */
  record AttentionExtras(boolean qkvBias, boolean outBias, boolean qkNorm) {}

  /** Values that the architecture's published configurations leave out. */
  record Defaults(int kvHeads, int headDim, int maxPositions) {}

  /** What to assume for absent fields. */
  abstract Defaults defaults(int heads, int hidden);

  /** What a {@code config.json} says about biases and norms of q and k. */
  abstract AttentionExtras extras(JsonFields config);

  /** What a GGUF file of this architecture has, seen from its tensors where that varies. */
  abstract AttentionExtras extras(GgufFile file);

  /** The sliding window of each layer, 0 for full attention. */
  abstract List<Integer> windows(JsonFields config, int layers);

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
    int intermediate = config.integer("intermediate_size");
    limits.width("intermediate_size", intermediate);
    int vocab = config.integer("vocab_size");
    limits.vocab("vocab_size", vocab);
    int maxPositions = config.integer("max_position_embeddings", defaults.maxPositions());
    limits.positive("max_position_embeddings", maxPositions);
    double eps = config.number("rms_norm_eps", 1e-6);
    limits.epsilon("rms_norm_eps", eps);
    AttentionExtras extras = extras(config);
    return new ModelSpec(
        modelType(),
        layers,
        hidden,
        vocab,
        maxPositions,
        attention(heads, kvHeads, headDim, extras, windows(config, layers)),
        new Mlp(intermediate, Activation.SWIGLU, null),
        Norm.RMS,
        eps,
        HfRope.read(config, maxPositions),
        config.flag("tie_word_embeddings", false),
        tokens.bos(),
        tokens.eos());
  }

  @Override
  public ModelSpec fromGguf(GgufFile file) {
    GgufMetadata metadata = file.metadata();
    String prefix = ggufName().orElseThrow() + ".";
    if (metadata.integer(prefix + "expert_count", 0) > 0) {
      throw metadata.bad(prefix + "expert_count", "is set: mixtures of experts are not supported");
    }
    SpecLimits limits = new SpecLimits(metadata::bad);
    int layers = metadata.integer(prefix + "block_count");
    limits.layers(prefix + "block_count", layers);
    int hidden = metadata.integer(prefix + "embedding_length");
    limits.width(prefix + "embedding_length", hidden);
    int heads = metadata.integer(prefix + "attention.head_count");
    limits.width(prefix + "attention.head_count", heads);
    int kvHeads = metadata.integer(prefix + "attention.head_count_kv", heads);
    limits.kvHeads(prefix + "attention.head_count_kv", kvHeads, heads);
    int headDim = metadata.integer(prefix + "attention.key_length", hidden / heads);
    limits.headDim(prefix + "attention.key_length", headDim, heads);
    if (metadata.integer(prefix + "attention.value_length", headDim) != headDim) {
      throw metadata.bad(prefix + "attention.value_length", "differs from the key length");
    }
    int intermediate = metadata.integer(prefix + "feed_forward_length");
    limits.width(prefix + "feed_forward_length", intermediate);
    int maxPositions = metadata.integer(prefix + "context_length");
    limits.positive(prefix + "context_length", maxPositions);
    int vocab = embeddingRows(file);
    limits.vocab("rows of token_embd.weight", vocab);
    double eps = metadata.number(prefix + "attention.layer_norm_rms_epsilon");
    limits.epsilon(prefix + "attention.layer_norm_rms_epsilon", eps);
    int window = metadata.integer(prefix + "attention.sliding_window", 0);
    SpecialTokens tokens = SpecialTokens.from(metadata);
    return new ModelSpec(
        modelType(),
        layers,
        hidden,
        vocab,
        maxPositions,
        attention(heads, kvHeads, headDim, extras(file), everyLayer(Math.max(0, window), layers)),
        new Mlp(intermediate, Activation.SWIGLU, null),
        Norm.RMS,
        eps,
        GgufRope.read(file, prefix, headDim, maxPositions),
        !file.names().contains(GGUF_NAMES.of(Param.LM_HEAD, 0)),
        tokens.bos(),
        tokens.eos());
  }

  private static Attention attention(
      int heads, int kvHeads, int headDim, AttentionExtras extras, List<Integer> windows) {
    return new Attention(
        heads,
        kvHeads,
        headDim,
        extras.qkvBias(),
        extras.outBias(),
        extras.qkNorm(),
        false,
        0,
        windows);
  }

  /** The table's rows are the vocabulary; {@code vocab_size} is missing from many files. */
  private static int embeddingRows(GgufFile file) {
    String name = GGUF_NAMES.of(Param.EMBEDDING, 0);
    if (!file.names().contains(name)) {
      throw file.fault("tensor " + name + " is missing");
    }
    long[] shape = file.view(name).shape();
    return (int) Math.min(shape[0], Integer.MAX_VALUE);
  }

  /** The same window, or 0 for none, on every layer. */
  static List<Integer> everyLayer(int window, int layers) {
    return Collections.nCopies(layers, window);
  }

  /** A sliding window that must be positive. */
  static int window(JsonFields config, String key) {
    int window = config.integer(key);
    if (window < 1) {
      throw config.bad(key, "is " + window + ", but must be positive");
    }
    return window;
  }

  @Override
  public TensorNames hfNames() {
    return HF_NAMES;
  }

  @Override
  public TensorNames ggufNames() {
    return GGUF_NAMES;
  }

  @Override
  public Optional<String> ggufName() {
    return Optional.of(modelType());
  }

  @Override
  public boolean ggufPairsRows() {
    return false;
  }
}
