package io.infinilora.engine;

import io.infinilora.core.TokenLogprobs;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Collects the log-probabilities of a prompt's tokens. */
final class PromptLogprobs implements PromptObserver {
  private final int[] prompt;
  private final int alternatives;
  private final TokenLogprobs[] logprobs;

  /**
   * A collector.
   *
   * @param alternatives most probable tokens to report per position
   */
  PromptLogprobs(int[] prompt, int alternatives) {
    this.prompt = prompt;
    this.alternatives = alternatives;
    this.logprobs = new TokenLogprobs[prompt.length];
  }

  @Override
  public void logits(int position, float[] logits) {
    if (position + 1 < prompt.length) {
      logprobs[position + 1] = describe(logits, prompt[position + 1]);
    }
  }

  /** One entry per prompt token; null for the first. */
  List<TokenLogprobs> logprobs() {
    return new ArrayList<>(Arrays.asList(logprobs));
  }

  private TokenLogprobs describe(float[] logits, int token) {
    float max = Float.NEGATIVE_INFINITY;
    for (float l : logits) {
      max = Math.max(max, l);
    }
    double sum = 0;
    for (float l : logits) {
      sum += Math.exp((double) l - max);
    }
    double logSum = max + Math.log(sum);
    int[] top = best(logits, Math.min(alternatives, logits.length));
    float[] topLogprobs = new float[top.length];
    for (int i = 0; i < top.length; i++) {
      topLogprobs[i] = (float) (logits[top[i]] - logSum);
    }
    return new TokenLogprobs((float) (logits[token] - logSum), top, topLogprobs);
  }

  /** Indices of the {@code n} largest values, best first; ties by index. */
  private static int[] best(float[] values, int n) {
    int[] best = new int[n];
    int found = 0;
    for (int i = 0; i < values.length && n > 0; i++) {
      if (found == n && values[i] <= values[best[n - 1]]) {
        continue;
      }
      int at = found < n ? found++ : n - 1;
      while (at > 0 && values[best[at - 1]] < values[i]) {
        best[at] = best[at - 1];
        at--;
      }
      best[at] = i;
    }
    return best;
  }
}
