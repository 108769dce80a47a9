package io.infinilora.scheduler;

import io.infinilora.core.FinishReason;

/**
 * What became of a sampled token.
 *
 * @param sequence whose
 * @param index position in the output, from 0
 * @param token id
 * @param emitted whether the token is part of the output; false for the token that stopped it
 * @param finish why the sequence ended with this token, or null if it goes on
 */
public record Outcome(
    Sequence sequence, int index, int token, boolean emitted, FinishReason finish) {}
