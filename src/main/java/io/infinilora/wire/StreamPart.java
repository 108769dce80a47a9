package io.infinilora.wire;

import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import java.util.List;

/**
 * Consecutive events of one stream, in the order of the components.
 *
 * @param stream its number at the gateway
 * @param sequence number of this part among those of the stream, from 0
 * @param started or null
 * @param prompt log-probabilities of the prompt, of which the first is null; or null
 * @param firstIndex position in the output of the first token
 * @param tokens may be empty
 * @param logprobs one entry per token; null if they were not asked for
 * @param end or null if the stream goes on
 */
public record StreamPart(
    long stream,
    long sequence,
    TokenEvent.Started started,
    List<TokenLogprobs> prompt,
    int firstIndex,
    int[] tokens,
    List<TokenLogprobs> logprobs,
    StreamEnd end) {}
