package io.infinilora.core;

import java.util.Objects;
import java.util.Optional;

/**
 * One generation, in token ids, from its beginning or from where another engine left off.
 *
 * @param id unique among the requests in flight; appears in logs and errors
 * @param prompt token ids, at least one (not copied: must not be changed afterwards)
 * @param adapter name of the adapter, or empty for the base model
 * @param sampling how tokens are chosen and when to stop
 * @param promptLogprobs whether to report log-probabilities of the prompt's tokens (the API's
 *     {@code echo})
 * @param reportStart whether to emit {@link TokenEvent.Started}
 * @param generated output tokens that another engine has emitted, fewer than {@code maxTokens}; the
 *     first {@link TokenEvent.Token} is the one after them, and everything else, too, is as if this
 *     engine had emitted them (not copied)
 * @param started what that engine said of the start: the adapter generation that has to compute the
 *     rest, and the usage to report; empty if nothing was emitted, or for the base model if the
 *     usage does not matter
 */
public record GenerateRequest(
    String id,
    int[] prompt,
    Optional<String> adapter,
    SamplingParams sampling,
    boolean promptLogprobs,
    boolean reportStart,
    int[] generated,
    Optional<TokenEvent.Started> started) {
  private static final int[] NOTHING = {};

  /** Rejects an empty prompt and an impossible past. */
  public GenerateRequest {
    Objects.requireNonNull(id);
    Objects.requireNonNull(adapter);
    Objects.requireNonNull(sampling);
    if (prompt.length == 0) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST, "prompt must have at least one token");
    }
    if (generated.length >= sampling.maxTokens()) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST,
          "%d tokens have been generated already, max_tokens is %d"
              .formatted(generated.length, sampling.maxTokens()));
    }
    Optional<String> begun =
        started.isPresent() ? started.get().adapter().map(AdapterId::name) : adapter;
    if (!begun.equals(adapter)) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST,
          "adapter is %s, but the generation was started with %s"
              .formatted(adapter.orElse("none"), begun.orElse("none")));
    }
  }

  /** A request from its beginning. */
  public GenerateRequest(
      String id,
      int[] prompt,
      Optional<String> adapter,
      SamplingParams sampling,
      boolean promptLogprobs) {
    this(id, prompt, adapter, sampling, promptLogprobs, false, NOTHING, Optional.empty());
  }

  /** A request without prompt log-probabilities. */
  public GenerateRequest(
      String id, int[] prompt, Optional<String> adapter, SamplingParams sampling) {
    this(id, prompt, adapter, sampling, false);
  }
}
