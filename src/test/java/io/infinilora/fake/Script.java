package io.infinilora.fake;

import io.infinilora.core.InfiniLoraException;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.stream.IntStream;

/**
 * What becomes of a request to a {@link FakeEngine}.
 *
 * @param tokens the output; an end-of-sequence token follows
 * @param endless whether the output is repeated without end instead
 * @param refusal failure before any event, or null
 * @param failAfter tokens before a failure
 * @param pauseAfter tokens before a pause
 * @param goOn ends the pause
 */
public record Script(
    List<Integer> tokens,
    boolean endless,
    InfiniLoraException refusal,
    int failAfter,
    int pauseAfter,
    CompletableFuture<Boolean> goOn) {
  private static final int NEVER = Integer.MAX_VALUE;

  /** Generates these tokens. */
  public static Script tokens(int... tokens) {
    return new Script(IntStream.of(tokens).boxed().toList(), false, null, NEVER, NEVER, null);
  }

  /** Generates this token until {@code maxTokens}. */
  public static Script forever(int token) {
    return new Script(List.of(token), true, null, NEVER, NEVER, null);
  }

  /** Fails at once. */
  public static Script refuses(InfiniLoraException failure) {
    return new Script(List.of(), false, failure, NEVER, NEVER, null);
  }

  /** The same, but fails after so many tokens. */
  public Script failingAfter(int count) {
    return new Script(tokens, endless, refusal, count, pauseAfter, goOn);
  }

  /** The same, but after so many tokens nothing happens until {@code future} completes. */
  public Script pausingAfter(int count, CompletableFuture<Boolean> future) {
    return new Script(tokens, endless, refusal, failAfter, count, future);
  }

  boolean has(int index) {
    return endless || index < tokens.size();
  }

  int token(int index) {
    return tokens.get(index % tokens.size());
  }
}
