package io.infinilora.weights;

import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.ModelSpec.Attention;
import io.infinilora.core.ModelSpec.Mlp;
import io.infinilora.core.ModelSpec.Norm;
import java.util.Collections;
import java.util.List;
import java.util.Optional;
import java.util.Set;

/**
 * What all decoders have in common: pre-norm layers of grouped-query attention and a gated MLP, or
 * experts in its place. GGUF metadata has the same keys for all of them; subclasses say where they
 * differ.
 */
abstract class DecoderArchitecture implements Architecture {

  /** Which of the optional parts the attention block has; no clip is 0. */
  record AttentionExtras(
      boolean qkvBias, boolean outBias, boolean qkNorm, boolean sinks, float clipQkv) {

    /** Biases and nothing else. */
    static AttentionExtras biases(boolean qkvBias, boolean outBias) {
      return new AttentionExtras(qkvBias, outBias, false, false, 0);
    }

    /** With norms of q and k. */
    AttentionExtras withQkNorm() {
      return new AttentionExtras(qkvBias, outBias, true, sinks, clipQkv);
    }
  }

  /** The biases that a GGUF file has tensors for. */
  static AttentionExtras presentBiases(GgufFile file) {
    return AttentionExtras.biases(
        file.names().contains(LlamaLayouts.GGUF.firstName(Param.Q_BIAS)),
        file.names().contains(LlamaLayouts.GGUF.firstName(Param.O_BIAS)));
  }

  /** What a GGUF file of this architecture has, seen from its tensors where that varies. */
  abstract AttentionExtras extras(GgufFile file);

  /** The feed-forward block of a GGUF file; {@code prefix} precedes its keys. */
  Mlp mlp(GgufMetadata metadata, String prefix, SpecLimits limits) {
    if (metadata.integer(prefix + "expert_count", 0) > 0) {
      throw metadata.bad(
          prefix + "expert_count", "is set, but " + modelType() + " models have no experts");
    }
    return new Mlp(
        width(metadata, prefix + "feed_forward_length", limits), Activation.SWIGLU, null);
  }

  /** The sliding window of each layer of a GGUF file, 0 for full attention. */
  List<Integer> windows(GgufMetadata metadata, String prefix, int layers) {
    return everyLayer(
        Math.max(0, metadata.integer(prefix + "attention.sliding_window", 0)), layers);
  }

  /** Which norm the layers have. */
  Norm norm() {
    return Norm.RMS;
  }

  /** Whether yarn rounds its correction range where the file does not say. */
  boolean yarnTruncates() {
    return true;
  }

  @Override
  public ModelSpec fromGguf(GgufFile file) {
    GgufMetadata metadata = file.metadata();
    String prefix = ggufName().orElseThrow() + ".";
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
    int maxPositions = metadata.integer(prefix + "context_length");
    limits.positive(prefix + "context_length", maxPositions);
    int vocab = embeddingRows(file);
    limits.vocab("rows of token_embd.weight", vocab);
    String epsilon =
        prefix
            + (norm() == Norm.RMS
                ? "attention.layer_norm_rms_epsilon"
                : "attention.layer_norm_epsilon");
    double eps = metadata.number(epsilon);
    limits.epsilon(epsilon, eps);
    SpecialTokens tokens = SpecialTokens.from(metadata);
    return new ModelSpec(
        modelType(),
        layers,
        hidden,
        vocab,
        maxPositions,
        attention(heads, kvHeads, headDim, extras(file), windows(metadata, prefix, layers)),
        mlp(metadata, prefix, limits),
        norm(),
        eps,
        GgufRope.read(file, prefix, headDim, maxPositions, yarnTruncates()),
        !file.names().contains(LlamaLayouts.GGUF.firstName(Param.LM_HEAD)),
        tokens.bos(),
        tokens.eos());
  }

  /** The table's rows are the vocabulary; {@code vocab_size} is missing from many files. */
  private static int embeddingRows(GgufFile file) {
    String name = LlamaLayouts.GGUF.firstName(Param.EMBEDDING);
    if (!file.names().contains(name)) {
      throw file.fault("tensor " + name + " is missing");
    }
    long[] shape = file.view(name).shape();
    return (int) Math.min(shape[0], Integer.MAX_VALUE);
  }

  /** A width from the metadata, within limits. */
  static int width(GgufMetadata metadata, String key, SpecLimits limits) {
    int width = metadata.integer(key);
    limits.width(key, width);
    return width;
  }

  /**
   * The experts that a GGUF file states, softmax before the choice, weights divided by their sum.
   */
  static ModelSpec.Moe softmaxFirst(GgufMetadata metadata, String prefix, SpecLimits limits) {
    int experts = metadata.integer(prefix + "expert_count");
    limits.experts(prefix + "expert_count", experts);
    int topK = metadata.integer(prefix + "expert_used_count");
    limits.topK(prefix + "expert_used_count", topK, experts);
    return new ModelSpec.Moe(experts, topK, true, true, false, false);
  }

  static Attention attention(
      int heads, int kvHeads, int headDim, AttentionExtras extras, List<Integer> windows) {
    return new Attention(
        heads,
        kvHeads,
        headDim,
        extras.qkvBias(),
        extras.outBias(),
        extras.qkNorm(),
        extras.sinks(),
        extras.clipQkv(),
        windows);
  }

  /** The same window, or 0 for none, on every layer. */
  static List<Integer> everyLayer(int window, int layers) {
    return Collections.nCopies(layers, window);
  }

  @Override
  public TensorLayout ggufLayout(Set<String> tensors) {
    return routed() ? ExpertLayouts.gguf(tensors) : LlamaLayouts.GGUF;
  }

  @Override
  public Optional<String> ggufName() {
    return Optional.of(modelType());
  }

  @Override
  public boolean routed() {
    return false;
  }

  @Override
  public Optional<String> quantMethod() {
    return Optional.empty();
  }

  @Override
  public boolean ggufPairsRows() {
    return false;
  }
}
