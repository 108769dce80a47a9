package io.infinilora.backend;

/**
 * Parameters of one layer's attention.
 *
 * @param heads query heads
 * @param kvHeads key/value heads
 * @param headDim elements of a head
 * @param scale factor of the scores
 * @param window position i attends to {@code i-window+1 .. i}; 0 for all up to i
 * @param sinks one extra logit per head that takes part in the softmax and is dropped; null for
 *     none
 */
public record AttentionParams(
    int heads, int kvHeads, int headDim, float scale, int window, Vec sinks) {}
