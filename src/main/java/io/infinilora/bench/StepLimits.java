package io.infinilora.bench;

import io.infinilora.core.ModelSpec;

/**
 * What a step of a model must move and compute at least, whoever computes it.
 *
 * @param spec the model
 * @param weightBytes bytes of a weight
 * @param kvBytesPerToken bytes of the keys and values of a token, all layers
 */
record StepLimits(ModelSpec spec, int weightBytes, long kvBytesPerToken) {

  private long attentionWeights() {
    ModelSpec.Attention a = spec.attention();
    return (long) spec.hidden() * (2L * a.qWidth() + 2L * a.kvWidth());
  }

  private long expertWeights() {
    return 3L * spec.hidden() * spec.mlp().intermediate();
  }

  private long routerWeights() {
    return spec.mlp().moe() == null ? 0 : (long) spec.hidden() * spec.mlp().moe().experts();
  }

  private long headWeights() {
    return (long) spec.hidden() * spec.vocab();
  }

  /**
   * Bytes of a decode step: each weight that is needed once, and the keys and values of all
   * contexts.
   *
   * @param activeExperts experts that some row chose, summed over the layers; ignored for dense
   *     models
   * @param sequences rows of the step
   * @param context positions of each
   */
  long decodeBytes(long activeExperts, int sequences, int context) {
    long experts = spec.mlp().moe() == null ? spec.layers() : activeExperts;
    long weights =
        spec.layers() * (attentionWeights() + routerWeights())
            + experts * expertWeights()
            + headWeights();
    long positions = 0;
    for (int window : spec.attention().windows()) {
      positions += window == 0 ? context : Math.min(context, window);
    }
    return weights * weightBytes + sequences * positions * (kvBytesPerToken / spec.layers());
  }

  /**
   * Floating-point operations of prefilling {@code prompts} prompts of {@code length} tokens:
   * matrix products of the weights that each token uses, causal attention, and logits of each
   * prompt's last token.
   */
  double prefillFlops(int prompts, int length) {
    ModelSpec.Attention a = spec.attention();
    double tokens = (double) prompts * length;
    int experts = spec.mlp().moe() == null ? 1 : spec.mlp().moe().topK();
    double perToken = attentionWeights() + routerWeights() + (double) experts * expertWeights();
    double scores = 0;
    for (int window : a.windows()) {
      for (int p = 1; p <= length; p++) {
        scores += window == 0 ? p : Math.min(p, window);
      }
    }
    return 2 * tokens * spec.layers() * perToken
        + 4.0 * prompts * scores * a.qWidth()
        + 2.0 * prompts * headWeights();
  }
}
