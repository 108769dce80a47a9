package io.infinilora.core;

import java.util.List;

/**
 * What a checkpoint is, independent of its file format: everything the model code needs besides the
 * weights.
 *
 * @param architecture Hugging Face {@code model_type}, e.g. {@code llama}, {@code qwen3}, {@code
 *     mixtral}
 * @param layers number of decoder layers
 * @param hidden width of the residual stream
 * @param vocab rows of the embedding table
 * @param maxPositions longest context that the checkpoint was made for
 * @param attention the attention block
 * @param mlp the feed-forward block
 * @param norm which normalisation precedes both blocks
 * @param normEps its epsilon
 * @param rope the rotation of q and k
 * @param tiedEmbeddings whether the logits use the embedding table
 * @param bosToken token that starts a text, or -1
 * @param eosTokens tokens that end a generation; may be empty
 */
public record ModelSpec(
    String architecture,
    int layers,
    int hidden,
    int vocab,
    int maxPositions,
    Attention attention,
    Mlp mlp,
    Norm norm,
    double normEps,
    RopeSpec rope,
    boolean tiedEmbeddings,
    int bosToken,
    List<Integer> eosTokens) {

  /** Copies the list. */
  public ModelSpec {
    eosTokens = List.copyOf(eosTokens);
  }

  /** Kinds of normalisation. */
  public enum Norm {
    /** Root mean square, scale only. */
    RMS,
    /** Mean and variance, scale only. */
    LAYER
  }

  /**
   * The attention block.
   *
   * @param heads query heads
   * @param kvHeads key and value heads; divides {@code heads}
   * @param headDim elements of a head, not necessarily hidden / heads
   * @param qkvBias whether q, k and v have biases
   * @param outBias whether the output projection has a bias
   * @param qkNorm whether q and k are RMS-normalised per head before the rotation
   * @param sinks whether each head has a sink logit
   * @param clipQkv bound of q, k, v after the projection (and its LoRA); 0 for none
   * @param windows sliding window of each layer; 0 for full attention
   */
  public record Attention(
      int heads,
      int kvHeads,
      int headDim,
      boolean qkvBias,
      boolean outBias,
      boolean qkNorm,
      boolean sinks,
      float clipQkv,
      List<Integer> windows) {

    /** Copies the list. */
    public Attention {
      windows = List.copyOf(windows);
    }

    /** Width of q, the input of the output projection. */
    public int qWidth() {
      return heads * headDim;
    }

    /** Width of k and of v. */
    public int kvWidth() {
      return kvHeads * headDim;
    }

    /** Factor of the attention scores. */
    public float scale() {
      return (float) (1.0 / Math.sqrt(headDim));
    }
  }

  /**
   * The feed-forward block.
   *
   * @param intermediate width between up and down, of one expert if there are several
   * @param activation what joins gate and up
   * @param moe the experts, or null for a dense block
   */
  public record Mlp(int intermediate, Activation activation, Moe moe) {}

  /**
   * Routed experts.
   *
   * @param experts number of experts
   * @param topK experts per token
   * @param softmaxFirst softmax over all experts before the choice (mixtral, qwen3_moe, dbrx) or
   *     over the chosen only (gpt_oss)
   * @param normalise whether the chosen weights are divided by their sum
   * @param routerBias whether the router has a bias
   * @param expertBias whether expert projections have biases
   */
  public record Moe(
      int experts,
      int topK,
      boolean softmaxFirst,
      boolean normalise,
      boolean routerBias,
      boolean expertBias) {}

  /** Whether the inputs of a LoRA site go to the experts of their rows. */
  public boolean routed(LoraSite site) {
    return mlp.moe() != null && (site == LoraSite.MLP_IN || site == LoraSite.MLP_OUT);
  }

  /** Rows of a LoRA site's input per row of a step: one, or one per chosen expert. */
  public int inRows(LoraSite site) {
    return mlp.moe() != null && site == LoraSite.MLP_OUT ? mlp.moe().topK() : 1;
  }

  /** Rows of a LoRA target's delta per row of a step: one, or one per chosen expert. */
  public int outRows(LoraTarget target) {
    return mlp.moe() != null && target.site() == LoraSite.MLP_IN ? mlp.moe().topK() : 1;
  }

  /** Output width of a LoRA target. */
  public int outWidth(LoraTarget target) {
    return switch (target) {
      case Q -> attention.qWidth();
      case K, V -> attention.kvWidth();
      case O, DOWN -> hidden;
      case GATE, UP -> mlp.intermediate();
    };
  }

  /** Input width of a LoRA site. */
  public int inWidth(LoraSite site) {
    return switch (site) {
      case ATTENTION_IN, MLP_IN -> hidden;
      case ATTENTION_OUT -> attention.qWidth();
      case MLP_OUT -> mlp.intermediate();
    };
  }
}
