package io.infinilora.core;

import java.util.Objects;
import java.util.Optional;

/**
 * One generation, in token ids.
 *
 * @param id unique among the requests in flight; appears in logs and errors
 * @param prompt token ids, at least one (not copied: must not be changed afterwards)
 * @param adapter name of the adapter, or empty for the base model
 * @param sampling how tokens are chosen and when to stop
 * @param promptLogprobs whether to report log-probabilities of the prompt's tokens (the API's
 *     {@code echo})
 */
public record GenerateRequest(
    String id,
    int[] prompt,
    Optional<String> adapter,
    SamplingParams sampling,
    boolean promptLogprobs) {

  /** Rejects an empty prompt. */
  public GenerateRequest {
    Objects.requireNonNull(id);
    Objects.requireNonNull(adapter);
    Objects.requireNonNull(sampling);
    if (prompt.length == 0) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST, "prompt must have at least one token");
    }
  }

  /** A request without prompt log-probabilities. */
  public GenerateRequest(
      String id, int[] prompt, Optional<String> adapter, SamplingParams sampling) {
    this(id, prompt, adapter, sampling, false);
  }
}
