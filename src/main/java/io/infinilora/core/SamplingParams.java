package io.infinilora.core;

import java.util.List;
import java.util.Map;

/**
 * How the next token is chosen. The order of operations is: logit bias, repetition, presence and
 * frequency penalties, then argmax if {@code temperature} is 0; else temperature, top-k, top-p,
 * min-p, and a draw from what is left.
 *
 * @param temperature 0 is greedy; at most 2
 * @param topP nucleus mass in (0, 1]; 1 is off
 * @param topK number of candidates; 0 is off
 * @param minP least probability relative to the best, in [0, 1]; 0 is off
 * @param repetitionPenalty divides positive and multiplies negative logits of tokens seen in prompt
 *     or output, in [0.01, 10]; 1 is off
 * @param presencePenalty subtracted once from tokens seen in the output, in [-2, 2]
 * @param frequencyPenalty subtracted per occurrence in the output, in [-2, 2]
 * @param seed seed of the draws; the draw for output token i of a request depends on (seed, i) only
 * @param logitBias added to single tokens' logits
 * @param stopTokens tokens that end the generation and are not part of the output text
 * @param maxTokens most output tokens; at least 1
 * @param ignoreEos whether end-of-sequence tokens are ordinary tokens
 * @param logprobs number of alternatives to report per token; 0 reports the chosen token only, -1
 *     nothing
 */
public record SamplingParams(
    double temperature,
    double topP,
    int topK,
    double minP,
    double repetitionPenalty,
    double presencePenalty,
    double frequencyPenalty,
    long seed,
    Map<Integer, Double> logitBias,
    List<Integer> stopTokens,
    int maxTokens,
    boolean ignoreEos,
    int logprobs) {

  /** Most alternatives that can be reported per token. */
  public static final int MAX_LOGPROBS = 20;

  /**
   * Least {@code repetition_penalty}. Logits are divided by it, so that a tiny one makes them
   * infinite.
   */
  public static final double MIN_REPETITION_PENALTY = 0.01;

  /** Checks every range; the message names the field as the HTTP API spells it. */
  public SamplingParams {
    range("temperature", temperature, 0, 2);
    range("top_p", topP, Double.MIN_VALUE, 1);
    range("top_k", topK, 0, Integer.MAX_VALUE);
    range("min_p", minP, 0, 1);
    range("repetition_penalty", repetitionPenalty, MIN_REPETITION_PENALTY, 10);
    range("presence_penalty", presencePenalty, -2, 2);
    range("frequency_penalty", frequencyPenalty, -2, 2);
    range("max_tokens", maxTokens, 1, Integer.MAX_VALUE);
    range("logprobs", logprobs, -1, MAX_LOGPROBS);
    logitBias = Map.copyOf(logitBias);
    stopTokens = List.copyOf(stopTokens);
    logitBias.forEach((token, bias) -> range("logit_bias[" + token + "]", bias, -100, 100));
  }

  private static void range(String field, double value, double min, double max) {
    if (!(value >= min && value <= max)) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST,
          min == Double.MIN_VALUE
              ? "%s must be greater than 0 and at most %s, not %s"
                  .formatted(field, number(max), number(value))
              : "%s must be between %s and %s, not %s"
                  .formatted(field, number(min), number(max), number(value)));
    }
  }

  private static String number(double v) {
    return v == Math.rint(v) && Math.abs(v) < 1e15 ? Long.toString((long) v) : Double.toString(v);
  }

  /** Greedy decoding of at most {@code maxTokens} tokens. */
  public static SamplingParams greedy(int maxTokens) {
    return new SamplingParams(0, 1, 0, 0, 1, 0, 0, 0, Map.of(), List.of(), maxTokens, false, -1);
  }

  /** The same without regard to end-of-sequence tokens. */
  public SamplingParams ignoringEos() {
    return with(maxTokens, true, logprobs);
  }

  /** The same with at most so many output tokens. */
  public SamplingParams limitedTo(int tokens) {
    return with(Math.min(tokens, maxTokens), ignoreEos, logprobs);
  }

  /** The same, reporting so many alternatives per token. */
  public SamplingParams reporting(int alternatives) {
    return with(maxTokens, ignoreEos, alternatives);
  }

  private SamplingParams with(int otherMaxTokens, boolean otherIgnoreEos, int otherLogprobs) {
    return new SamplingParams(
        temperature,
        topP,
        topK,
        minP,
        repetitionPenalty,
        presencePenalty,
        frequencyPenalty,
        seed,
        logitBias,
        stopTokens,
        otherMaxTokens,
        otherIgnoreEos,
        otherLogprobs);
  }

  /** Whether the choice is the argmax. */
  public boolean isGreedy() {
    return temperature == 0;
  }

  /** Whether any penalty needs the history of tokens. */
  public boolean hasPenalties() {
    return repetitionPenalty != 1 || presencePenalty != 0 || frequencyPenalty != 0;
  }
}
