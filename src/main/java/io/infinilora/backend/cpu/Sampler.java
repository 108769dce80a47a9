package io.infinilora.backend.cpu;

import io.infinilora.backend.Draws;
import io.infinilora.backend.SampleResult;
import io.infinilora.backend.SampleRow;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenLogprobs;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Map;
import java.util.Set;

/**
 * Chooses the token of one row of logits, in the order of operations of {@link SamplingParams}.
 * Candidates are ranked by logit, ties by lower id, and only as far down as the draw reaches.
 */
final class Sampler {
  private final long logits;
  private final int vocab;
  private final Scratch scratch;

  /**
   * @param logits row of logits; overwritten where a bias or a penalty applies
   * @param scratch at least one vector
   */
  Sampler(long logits, int vocab, Scratch scratch) {
    this.logits = logits;
    this.vocab = vocab;
    this.scratch = scratch;
  }

  /**
   * Draws.
   *
   * @param number of the row, for the error message
   * @throws InfiniLoraException INTERNAL if a logit is NaN or plus infinity
   */
  SampleResult sample(SampleRow row, int number) {
    SamplingParams params = row.params();
    float most = checkedMax(number);
    double logSum = 0;
    RankedLogits raw = null;
    float[] top = null;
    int[] topTokens = null;
    boolean wantsLogprobs = params.logprobs() >= 0;
    if (wantsLogprobs) {
      logSum = most + Math.log(sumExp(most, 1));
      raw = new RankedLogits(logits, vocab, most);
      int n = Math.min(params.logprobs(), vocab);
      top = new float[n];
      topTokens = new int[n];
      for (int i = 0; i < n; i++) {
        topTokens[i] = raw.token(i);
        top[i] = (float) (raw.logit(i) - logSum);
      }
    }
    Map<Integer, Float> before = adjust(row);
    if (!before.isEmpty()) {
      most = checkedMax(number);
    }
    int token = params.isGreedy() ? VectorMath.indexOf(logits, vocab, most) : draw(row, most);
    if (!wantsLogprobs) {
      return new SampleResult(token, null);
    }
    float own = before.getOrDefault(token, logit(token));
    return new SampleResult(token, new TokenLogprobs((float) (own - logSum), topTokens, top));
  }

  private float checkedMax(int number) {
    float most = VectorMath.max(logits, vocab);
    if (!Float.isFinite(most)) {
      throw new InfiniLoraException(
          ErrorCode.INTERNAL, "row " + number + " of the logits holds " + most);
    }
    return most;
  }

  private double sumExp(float shift, double factor) {
    return VectorMath.sumExp(
        logits, vocab, shift, (float) factor, scratch.reserve(VectorMath.SUM_SCRATCH));
  }

  private float logit(int token) {
    return Memory.get(logits + 4L * token);
  }

  /** Applies bias and penalties; returns what the changed tokens' logits were. */
  private Map<Integer, Float> adjust(SampleRow row) {
    SamplingParams params = row.params();
    Map<Integer, Float> before = new HashMap<>();
    for (Map.Entry<Integer, Double> bias : params.logitBias().entrySet()) {
      int token = bias.getKey();
      if (token < 0 || token >= vocab) {
        throw new InfiniLoraException(
            ErrorCode.INVALID_REQUEST,
            "logit_bias names token %d, but there are %d".formatted(token, vocab));
      }
      change(before, token, logit(token) + bias.getValue());
    }
    if (!params.hasPenalties()) {
      return before;
    }
    Map<Integer, Integer> counts = new HashMap<>();
    for (int i = row.promptLength(); i < row.historyLength(); i++) {
      counts.merge(row.history()[i], 1, Integer::sum);
    }
    Set<Integer> seen = new HashSet<>(counts.keySet());
    for (int i = 0; i < row.promptLength(); i++) {
      seen.add(row.history()[i]);
    }
    for (int token : seen) {
      if (token < 0 || token >= vocab) {
        throw new IllegalArgumentException(
            "token %d in the history, but there are %d".formatted(token, vocab));
      }
      double logit = logit(token);
      logit = logit > 0 ? logit / params.repetitionPenalty() : logit * params.repetitionPenalty();
      int count = counts.getOrDefault(token, 0);
      if (count > 0) {
        logit -= params.presencePenalty() + count * params.frequencyPenalty();
      }
      change(before, token, logit);
    }
    return before;
  }

  private void change(Map<Integer, Float> before, int token, double logit) {
    before.putIfAbsent(token, logit(token));
    Memory.set(logits + 4L * token, (float) logit);
  }

  private int draw(SampleRow row, float most) {
    SamplingParams params = row.params();
    // Bounded so that it is finite in float32; far below, everything but the best is 0 anyway.
    double factor = Math.min(1 / params.temperature(), 1e30);
    RankedLogits ranked = new RankedLogits(logits, vocab, most);
    int candidates = params.topK() == 0 ? vocab : Math.min(params.topK(), vocab);
    double total = 0;
    if (candidates == vocab) {
      total = sumExp(most, factor);
    } else {
      for (int i = 0; i < candidates; i++) {
        total += weight(ranked, i, most, factor);
      }
    }
    if (params.topP() < 1 || params.minP() > 0) {
      double kept = 0;
      int n = 0;
      while (n < candidates && (n == 0 || kept < params.topP() * total)) {
        double w = weight(ranked, n, most, factor);
        // The best candidate has weight 1.
        if (w < params.minP()) {
          break;
        }
        kept += w;
        n++;
      }
      candidates = n;
      total = kept;
    }
    double target = Draws.uniform(params.seed(), row.step()) * total;
    double passed = 0;
    for (int i = 0; i < candidates - 1; i++) {
      passed += weight(ranked, i, most, factor);
      if (passed > target) {
        return ranked.token(i);
      }
    }
    return ranked.token(candidates - 1);
  }

  private static double weight(RankedLogits ranked, int rank, float most, double factor) {
    return Math.exp((ranked.logit(rank) - (double) most) * factor);
  }
}
