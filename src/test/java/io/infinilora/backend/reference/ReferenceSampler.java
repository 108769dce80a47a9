package io.infinilora.backend.reference;

import io.infinilora.backend.Draws;
import io.infinilora.backend.SampleRow;
import io.infinilora.core.SamplingParams;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Map;

/** The order of operations of {@link SamplingParams} by the book: sort everything, in double. */
public final class ReferenceSampler {
  private final double[] logits;
  private final SampleRow row;

  /**
   * @param logits float32 values; left alone
   */
  public ReferenceSampler(double[] logits, SampleRow row) {
    this.logits = logits;
    this.row = row;
  }

  /** The token. */
  public int token() {
    SamplingParams p = row.params();
    double[] adjusted = adjusted();
    Integer[] ranked = ranked(adjusted);
    if (p.isGreedy()) {
      return ranked[0];
    }
    int n = p.topK() == 0 ? ranked.length : Math.min(p.topK(), ranked.length);
    double[] weights = new double[n];
    for (int i = 0; i < n; i++) {
      weights[i] = Math.exp((adjusted[ranked[i]] - adjusted[ranked[0]]) / p.temperature());
    }
    double total = Arrays.stream(weights).sum();
    if (p.topP() < 1) {
      double sum = 0;
      int kept = 0;
      while (kept < n && sum < p.topP() * total) {
        sum += weights[kept++];
      }
      n = kept;
    }
    while (weights[n - 1] < p.minP()) {
      n--;
    }
    double target = Draws.uniform(p.seed(), row.step()) * Arrays.stream(weights, 0, n).sum();
    double sum = 0;
    for (int i = 0; i < n; i++) {
      sum += weights[i];
      if (sum > target) {
        return ranked[i];
      }
    }
    return ranked[n - 1];
  }

  /** The tokens with the highest logits, bias and penalties left aside. */
  public int[] top(int n) {
    return Arrays.stream(ranked(logits)).limit(n).mapToInt(Integer::intValue).toArray();
  }

  /** The logarithm of a token's probability, bias and penalties left aside. */
  public double logprob(int token) {
    double most = Arrays.stream(logits).max().orElseThrow();
    return logits[token]
        - most
        - Math.log(Arrays.stream(logits).map(logit -> Math.exp(logit - most)).sum());
  }

  private static Integer[] ranked(double[] values) {
    Integer[] order = new Integer[values.length];
    Arrays.setAll(order, i -> i);
    Arrays.sort(order, Comparator.comparingDouble(i -> 0 - values[i])); // Stable; zeros are equal.
    return order;
  }

  private double[] adjusted() {
    SamplingParams p = row.params();
    double[] out = logits.clone();
    for (Map.Entry<Integer, Double> bias : p.logitBias().entrySet()) {
      out[bias.getKey()] = (float) (out[bias.getKey()] + bias.getValue());
    }
    if (!p.hasPenalties()) {
      return out;
    }
    int[] counts = new int[out.length];
    boolean[] seen = new boolean[out.length];
    for (int i = 0; i < row.historyLength(); i++) {
      seen[row.history()[i]] = true;
      counts[row.history()[i]] += i < row.promptLength() ? 0 : 1;
    }
    for (int t = 0; t < out.length; t++) {
      if (seen[t]) {
        out[t] = out[t] > 0 ? out[t] / p.repetitionPenalty() : out[t] * p.repetitionPenalty();
        if (counts[t] > 0) {
          out[t] -= p.presencePenalty() + counts[t] * p.frequencyPenalty();
        }
        out[t] = (float) out[t];
      }
    }
    return out;
  }
}
