package io.infinilora.weights;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.ModelSpec.Mlp;
import io.infinilora.core.ModelSpec.Moe;
import io.infinilora.core.ModelSpec.Norm;
import io.infinilora.core.RopeSpec;
import java.util.Map;
import java.util.Set;

/**
 * DBRX: layer norms, q, k and v in one tensor and bounded, experts flattened into the rows of one
 * tensor per projection. Its {@code config.json} has names of its own.
 */
final class DbrxArchitecture extends DecoderArchitecture {

  /** The reference builds its norms without naming one. */
  private static final double EPSILON = 1e-5;

  private static final double DEFAULT_THETA = 10000;

  private static final String BLOCK = "transformer.blocks.%d.";
  private static final String EXPERTS = BLOCK + "ffn.experts.mlp.";

  private static final TensorPlace QKV =
      TensorPlace.of(BLOCK + "norm_attn_norm.attn.Wqkv.weight").shared(Param.Q, Param.K, Param.V);

  private static final TensorPlace GGUF_QKV =
      TensorPlace.of("blk.%d.attn_qkv.weight").shared(Param.Q, Param.K, Param.V);

  private static final TensorLayout HF =
      TensorLayout.named(
              Map.of(
                  Param.EMBEDDING, "transformer.wte.weight",
                  Param.FINAL_NORM, "transformer.norm_f.weight",
                  Param.LM_HEAD, "lm_head.weight",
                  Param.ATTENTION_NORM, BLOCK + "norm_attn_norm.norm_1.weight",
                  Param.O, BLOCK + "norm_attn_norm.attn.out_proj.weight",
                  Param.MLP_NORM, BLOCK + "norm_attn_norm.norm_2.weight",
                  Param.ROUTER, BLOCK + "ffn.router.layer.weight"))
          .with(
              Map.of(
                  Param.Q,
                  QKV,
                  Param.K,
                  QKV,
                  Param.V,
                  QKV,
                  Param.GATE,
                  TensorPlace.of(EXPERTS + "w1").asFlat(),
                  Param.UP,
                  TensorPlace.of(EXPERTS + "v1").asFlat(),
                  Param.DOWN,
                  TensorPlace.of(EXPERTS + "w2").asFlat().asTransposed()));

  @Override
  public String modelType() {
    return "dbrx";
  }

  @Override
  public boolean routed() {
    return true;
  }

  @Override
  Norm norm() {
    return Norm.LAYER;
  }

  @Override
  public ModelSpec fromConfig(JsonFields config, SpecialTokens tokens) {
    SpecLimits limits = new SpecLimits(config::bad);
    int layers = config.integer("n_layers");
    limits.layers("n_layers", layers);
    int hidden = config.integer("d_model");
    limits.width("d_model", hidden);
    int heads = config.integer("n_heads");
    limits.width("n_heads", heads);
    if (hidden % heads != 0) {
      throw config.bad("n_heads", "is " + heads + ", which does not divide d_model " + hidden);
    }
    limits.headDim("d_model / n_heads", hidden / heads, heads);
    int vocab = config.integer("vocab_size");
    limits.vocab("vocab_size", vocab);
    int maxPositions = config.integer("max_seq_len");
    limits.positive("max_seq_len", maxPositions);
    JsonFields attention = nested(config, "attn_config");
    int kvHeads = attention.integer("kv_n_heads", 1);
    new SpecLimits(attention::bad).kvHeads("kv_n_heads", kvHeads, heads);
    return new ModelSpec(
        modelType(),
        layers,
        hidden,
        vocab,
        maxPositions,
        attention(
            heads,
            kvHeads,
            hidden / heads,
            clipped(attention.has("clip_qkv") ? clip(attention) : 0),
            everyLayer(0, layers)),
        mlp(nested(config, "ffn_config")),
        norm(),
        EPSILON,
        rope(config, attention, maxPositions),
        config.flag("tie_word_embeddings", false),
        tokens.bos(),
        tokens.eos());
  }

  private static JsonFields nested(JsonFields config, String key) {
    return config.object(key).orElseThrow(() -> config.bad(key, "is missing"));
  }

  private static double clip(JsonFields attention) {
    double clip = attention.number("clip_qkv");
    if (clip <= 0) {
      throw attention.bad("clip_qkv", "is " + clip + ", but must be positive");
    }
    return clip;
  }

  private static AttentionExtras clipped(double bound) {
    return new AttentionExtras(false, false, false, false, (float) bound);
  }

  private static Mlp mlp(JsonFields ffn) {
    String activation =
        ffn.object("ffn_act_fn").flatMap(fields -> fields.text("name")).orElse("silu");
    if (!activation.equals("silu")) {
      throw ffn.bad("ffn_act_fn", "is \"" + activation + "\"; supported is silu");
    }
    SpecLimits limits = new SpecLimits(ffn::bad);
    int inner = ffn.integer("ffn_hidden_size");
    limits.width("ffn_hidden_size", inner);
    int experts = ffn.integer("moe_num_experts");
    limits.experts("moe_num_experts", experts);
    int topK = ffn.integer("moe_top_k");
    limits.topK("moe_top_k", topK, experts);
    return new Mlp(
        inner, Activation.SWIGLU, new Moe(experts, topK, true, normalises(ffn), false, false));
  }

  /** The order of the norm that weights are divided by; null for none, absent for 1, their sum. */
  private static boolean normalises(JsonFields ffn) {
    String key = "moe_normalize_expert_weights";
    if (ffn.contains(key) && !ffn.has(key)) {
      return false;
    }
    double order = ffn.number(key, 1);
    if (order != 1) {
      throw ffn.bad(key, "is " + order + "; supported are 1 and null");
    }
    return true;
  }

  /** Published configurations have the base inside {@code attn_config} only. */
  private static RopeSpec rope(JsonFields config, JsonFields attention, int maxPositions) {
    double inner = attention.number("rope_theta", DEFAULT_THETA);
    RopeSpec rope = HfRope.read(config, maxPositions, inner);
    if (attention.has("rope_theta") && rope.theta() != inner) {
      throw attention.bad("rope_theta", "is " + inner + ", but " + rope.theta() + " outside");
    }
    return rope;
  }

  @Override
  AttentionExtras extras(GgufFile file) {
    String key = "dbrx.attention.clamp_kqv";
    double clip = file.metadata().number(key, 0);
    if (clip < 0) {
      throw file.metadata().bad(key, "is " + clip + ", but must not be negative");
    }
    return clipped(clip);
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
    return HF;
  }

  @Override
  public TensorLayout ggufLayout(Set<String> tensors) {
    return super.ggufLayout(tensors)
        .withNames(Map.of(Param.MLP_NORM, "blk.%d.attn_output_norm.weight"))
        .with(Map.of(Param.Q, GGUF_QKV, Param.K, GGUF_QKV, Param.V, GGUF_QKV));
  }
}
