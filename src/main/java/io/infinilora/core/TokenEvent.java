package io.infinilora.core;

import java.util.List;
import java.util.Optional;

/**
 * What a generation emits, in order: at most one {@link Started}, at most one {@link Prompt}, then
 * {@link Token}s, then one {@link Finished}.
 */
public sealed interface TokenEvent {

  /**
   * What another engine has to know to go on with the generation, if asked for. Comes right before
   * the first event of another kind.
   *
   * @param adapter generation of the adapter that computes it; empty for the base model
   * @param cachedPromptTokens as in {@link Finished}
   */
  record Started(Optional<AdapterId> adapter, int cachedPromptTokens) implements TokenEvent {}

  /**
   * Log-probabilities of the prompt, if asked for.
   *
   * @param logprobs one entry per prompt token; the first is null, since nothing precedes it
   */
  record Prompt(List<TokenLogprobs> logprobs) implements TokenEvent {}

  /**
   * An output token.
   *
   * @param index position in the output, from 0
   * @param token id
   * @param logprobs null unless asked for
   */
  record Token(int index, int token, TokenLogprobs logprobs) implements TokenEvent {}

  /**
   * The end. A stop or end-of-sequence token has been consumed and was not emitted as a {@link
   * Token}.
   *
   * @param reason why
   * @param promptTokens length of the prompt
   * @param cachedPromptTokens how many of them were found in the prefix cache
   * @param outputTokens number of {@link Token}s emitted
   */
  record Finished(FinishReason reason, int promptTokens, int cachedPromptTokens, int outputTokens)
      implements TokenEvent {}
}
