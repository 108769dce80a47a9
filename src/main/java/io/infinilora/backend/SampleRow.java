package io.infinilora.backend;

import io.infinilora.core.SamplingParams;

/**
 * One row of logits to sample from.
 *
 * @param params how
 * @param step index of the output token that is drawn, from 0; selects the random number together
 *     with the seed
 * @param history prompt and output so far; read only if penalties are on
 * @param promptLength how many of the history's tokens are the prompt
 * @param historyLength valid elements of {@code history}
 */
public record SampleRow(
    SamplingParams params, int step, int[] history, int promptLength, int historyLength) {}
