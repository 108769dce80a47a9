package io.infinilora.node;

import io.infinilora.core.Engine;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import io.smallrye.mutiny.Uni;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.UUID;

/**
 * Measures what an adapter does to log-probabilities along a fixed prompt, by two ordinary
 * requests.
 */
final class LogprobProbe {
  private static final int PROMPT_TOKENS = 8;

  // A base model of another process may learn of an adapter a little later than its front end.
  private static final int ATTEMPTS = 6;
  private static final Duration FIRST_PAUSE = Duration.ofMillis(20);

  private final Engine engine;

  /** A probe of an engine, here or elsewhere. */
  LogprobProbe(Engine engine) {
    this.engine = engine;
  }

  /**
   * Largest difference between the log-probability of a token with an adapter and without, over the
   * tokens that both requests report; empty if the engine does not report any.
   */
  Uni<OptionalDouble> change(String adapter) {
    return logprobs(Optional.empty())
        .chain(
            without ->
                logprobs(Optional.of(adapter))
                    .onFailure(LogprobProbe::unknown)
                    .retry()
                    .withBackOff(FIRST_PAUSE)
                    .atMost(ATTEMPTS)
                    .map(with -> difference(with, without)));
  }

  private static boolean unknown(Throwable failure) {
    return failure instanceof InfiniLoraException e && e.code() == ErrorCode.MODEL_NOT_FOUND;
  }

  /** What one request reports, position by position. */
  private Uni<List<Map<Integer, Float>>> logprobs(Optional<String> adapter) {
    return Uni.createFrom()
        .deferred(
            () -> {
              int[] prompt = prompt();
              List<Map<Integer, Float>> seen = new ArrayList<>();
              return engine
                  .generate(
                      new GenerateRequest(
                          "dry-run-" + UUID.randomUUID(),
                          prompt,
                          adapter,
                          SamplingParams.greedy(1)
                              .ignoringEos()
                              .reporting(SamplingParams.MAX_LOGPROBS),
                          true))
                  .invoke(event -> collect(event, prompt, seen))
                  .collect()
                  .last()
                  .map(end -> seen);
            });
  }

  /** Tokens from all over the vocabulary. */
  private int[] prompt() {
    int vocab = engine.model().vocab();
    int[] prompt = new int[Math.min(PROMPT_TOKENS, engine.contextLength() - 1)];
    for (int i = 0; i < prompt.length; i++) {
      prompt[i] = (int) ((long) vocab * (i + 1) / (prompt.length + 1));
    }
    return prompt;
  }

  private static void collect(TokenEvent event, int[] prompt, List<Map<Integer, Float>> seen) {
    switch (event) {
      case TokenEvent.Prompt p -> {
        for (int i = 1; i < p.logprobs().size(); i++) {
          seen.add(byToken(prompt[i], p.logprobs().get(i)));
        }
      }
      case TokenEvent.Token t -> seen.add(byToken(t.token(), t.logprobs()));
      case TokenEvent.Started s -> {}
      case TokenEvent.Finished f -> {}
    }
  }

  private static Map<Integer, Float> byToken(int token, TokenLogprobs logprobs) {
    Map<Integer, Float> byToken = new HashMap<>();
    if (logprobs != null) {
      byToken.put(token, logprobs.logprob());
      for (int i = 0; i < logprobs.topTokens().length; i++) {
        byToken.put(logprobs.topTokens()[i], logprobs.topLogprobs()[i]);
      }
    }
    return byToken;
  }

  private static OptionalDouble difference(
      List<Map<Integer, Float>> with, List<Map<Integer, Float>> without) {
    OptionalDouble most = OptionalDouble.empty();
    for (int i = 0; i < Math.min(with.size(), without.size()); i++) {
      for (Map.Entry<Integer, Float> token : with.get(i).entrySet()) {
        Float other = without.get(i).get(token.getKey());
        if (other != null) {
          double change = Math.abs((double) token.getValue() - other);
          most = OptionalDouble.of(Math.max(most.orElse(0), change));
        }
      }
    }
    return most;
  }
}
