package io.infinilora.backend.cpu;

import io.infinilora.core.ModelSpec;

/** The choice of experts for one row. */
final class RoutingKernels {
  private RoutingKernels() {}

  /**
   * Chooses the {@code topK} largest logits, in descending order, the lower expert first among
   * equals, and computes their weights.
   *
   * @param logits address of a logit per expert
   * @param choices experts go to {@code at .. at + topK - 1}
   * @param weights likewise
   * @param scratch memory for one vector
   */
  static void choose(
      long logits, ModelSpec.Moe moe, int[] choices, float[] weights, int at, long scratch) {
    int topK = moe.topK();
    int chosen = 0;
    for (int e = 0; e < moe.experts(); e++) {
      float logit = Memory.get(logits + 4L * e);
      int place = chosen;
      while (place > 0 && logit > Memory.get(logits + 4L * choices[at + place - 1])) {
        if (place < topK) {
          choices[at + place] = choices[at + place - 1];
        }
        place--;
      }
      if (place < topK) {
        choices[at + place] = e;
        chosen = Math.min(chosen + 1, topK);
      }
    }
    float most = Memory.get(logits + 4L * choices[at]);
    double total = 0;
    if (moe.softmaxFirst() && !moe.normalise()) {
      total = VectorMath.sumExp(logits, moe.experts(), most, 1, scratch);
    } else {
      // The sum over all experts cancels when the chosen weights are divided by theirs.
      for (int j = at; j < at + topK; j++) {
        total += Math.exp(Memory.get(logits + 4L * choices[j]) - most);
      }
    }
    for (int j = at; j < at + topK; j++) {
      weights[j] = (float) (Math.exp(Memory.get(logits + 4L * choices[j]) - most) / total);
    }
  }
}
