package io.infinilora.node;

import io.infinilora.core.Engine;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.vertx.core.Future;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/** Shorthands of the node tests. */
final class Generations {
  private static final AtomicLong IDS = new AtomicLong();

  private Generations() {}

  /** Greedy tokens without regard to end-of-sequence tokens. */
  static CompletableFuture<List<Integer>> greedy(
      Engine engine, int[] prompt, Optional<String> adapter, int tokens) {
    return tokens(engine, prompt, adapter, SamplingParams.greedy(tokens).ignoringEos());
  }

  static CompletableFuture<List<Integer>> tokens(
      Engine engine, int[] prompt, Optional<String> adapter, SamplingParams sampling) {
    return engine
        .generate(new GenerateRequest("test-" + IDS.incrementAndGet(), prompt, adapter, sampling))
        .filter(TokenEvent.Token.class::isInstance)
        .map(e -> ((TokenEvent.Token) e).token())
        .collect()
        .asList()
        .subscribeAsCompletionStage()
        .orTimeout(120, TimeUnit.SECONDS);
  }

  static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(120, TimeUnit.SECONDS).join();
  }
}
