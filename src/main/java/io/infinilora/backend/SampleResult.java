package io.infinilora.backend;

import io.infinilora.core.TokenLogprobs;

/**
 * A drawn token.
 *
 * @param token id
 * @param logprobs null unless the parameters ask for them
 */
public record SampleResult(int token, TokenLogprobs logprobs) {}
