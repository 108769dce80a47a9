package io.infinilora.core;

/**
 * Log-probabilities at one position, natural logarithm, before temperature and penalties.
 *
 * @param logprob of the token itself
 * @param topTokens the most probable tokens, best first; may be empty
 * @param topLogprobs their log-probabilities
 */
public record TokenLogprobs(float logprob, int[] topTokens, float[] topLogprobs) {}
