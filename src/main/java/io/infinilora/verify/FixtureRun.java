package io.infinilora.verify;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TensorView;
import io.infinilora.core.TokenEvent;
import io.infinilora.engine.BaseModelVerticle;
import io.infinilora.engine.PromptObserver;
import io.infinilora.weights.SafetensorsFile;
import io.smallrye.mutiny.Multi;
import java.lang.foreign.Arena;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * One fixture on one engine: every case for its logits and greedy tokens, then the mixed batch at
 * once. Blocks; not for event loops.
 */
final class FixtureRun {
  private static final Duration PATIENCE = Duration.ofMinutes(2);

  private final Fixture fixture;
  private final BaseModelVerticle engine;
  private final LoraMode mode;
  private final Arithmetic arithmetic;
  private final Consumer<CaseResult> sink;

  /**
   * A run that is not begun.
   *
   * @param mode in {@code none}, only cases without an adapter are run
   * @param sink gets each result at once
   */
  FixtureRun(
      Fixture fixture,
      BaseModelVerticle engine,
      LoraMode mode,
      Arithmetic arithmetic,
      Consumer<CaseResult> sink) {
    this.fixture = fixture;
    this.engine = engine;
    this.mode = mode;
    this.arithmetic = arithmetic;
    this.sink = sink;
  }

  void run() {
    cases();
    mixed();
  }

  private void cases() {
    Map<String, List<LogitCheck>> variants = new LinkedHashMap<>();
    try (Arena arena = Arena.ofShared()) {
      SafetensorsFile expected =
          SafetensorsFile.open(
              fixture.directory().resolve("expected.safetensors"), ErrorCode.BAD_CONFIG, arena);
      for (Fixture.Case c : fixture.cases()) {
        if (c.adapter().isPresent() && mode == LoraMode.NONE) {
          continue;
        }
        TensorView logits = expected.view(c.logitsKey());
        LogitCheck check = new LogitCheck(logits, c.allPositions() ? 0 : c.prompt().length - 1);
        variants.computeIfAbsent(c.variant(), v -> new ArrayList<>()).add(check);
        sink.accept(check(c, check));
      }
    }
    if (arithmetic != Arithmetic.FLOAT32) {
      variants.forEach(this::norm);
    }
  }

  private CaseResult check(Fixture.Case c, LogitCheck check) {
    int[] tokens;
    try {
      tokens = result(submit(c.name(), c.prompt(), c.adapter(), c.greedy().length, check)).tokens();
    } catch (RuntimeException e) {
      return CaseResult.fail(fixture.name(), c.name(), Double.NaN, e.toString());
    }
    double worst = check.worst();
    if (arithmetic == Arithmetic.FLOAT32 && !(worst <= Arithmetic.ABSOLUTE)) {
      return CaseResult.fail(
          fixture.name(), c.name(), worst, "logits differ by more than " + Arithmetic.ABSOLUTE);
    }
    int steps = arithmetic.comparable(c, engine.model().mlp().moe() != null);
    return tokens(c.name(), worst, Arrays.copyOf(c.greedy(), steps), Arrays.copyOf(tokens, steps));
  }

  /** The error of all logits of one adapter choice together. */
  private void norm(String variant, List<LogitCheck> checks) {
    double error = checks.stream().mapToDouble(LogitCheck::squaredError).sum();
    double norm = checks.stream().mapToDouble(LogitCheck::squaredNorm).sum();
    double relative = Math.sqrt(error / norm);
    String name = variant + ".norm";
    sink.accept(
        relative <= Arithmetic.RELATIVE
            ? CaseResult.pass(fixture.name(), name, relative)
            : CaseResult.fail(
                fixture.name(),
                name,
                relative,
                "the norm of the logits' error is more than %s of theirs"
                    .formatted(Arithmetic.RELATIVE)));
  }

  private CaseResult tokens(String name, double worst, int[] expected, int[] actual) {
    int at = Arrays.mismatch(expected, actual);
    return at < 0
        ? CaseResult.pass(fixture.name(), name, worst)
        : CaseResult.fail(
            fixture.name(),
            name,
            worst,
            "tokens differ at step %d: expected %s, got %s"
                .formatted(at, Arrays.toString(expected), Arrays.toString(actual)));
  }

  private void mixed() {
    List<Fixture.Mixed> requests =
        fixture.mixedBatch().stream()
            .filter(r -> r.adapter().isEmpty() || mode != LoraMode.NONE)
            .toList();
    List<Reply> expected = new ArrayList<>();
    for (Fixture.Mixed r : requests) {
      // Rounding may lead to other tokens than the reference's, but not to other ones in a batch
      // than alone, as far as they are told apart clearly.
      expected.add(
          arithmetic == Arithmetic.FLOAT32 ? new Reply(r.expected(), new float[0]) : alone(r));
    }
    List<CompletableFuture<Reply>> running = new ArrayList<>();
    for (Fixture.Mixed r : requests) {
      running.add(submit("mixed." + r.id(), r.prompt(), r.adapter(), r.expected().length, null));
    }
    for (int i = 0; i < requests.size(); i++) {
      String name = "mixed." + requests.get(i).id();
      try {
        sink.accept(compare(name, expected.get(i), result(running.get(i))));
      } catch (CompletionException e) {
        sink.accept(CaseResult.fail(fixture.name(), name, Double.NaN, e.getCause().toString()));
      }
    }
  }

  private CaseResult compare(String name, Reply alone, Reply inBatch) {
    if (arithmetic.invariant() || alone.tokens().length != inBatch.tokens().length) {
      return tokens(name, Double.NaN, alone.tokens(), inBatch.tokens());
    }
    int steps = Arithmetic.comparable(alone.gaps(), engine.model().mlp().moe() != null);
    return tokens(
        name,
        Double.NaN,
        Arrays.copyOf(alone.tokens(), steps),
        Arrays.copyOf(inBatch.tokens(), steps));
  }

  /** What a request gives with nothing beside it; empty if it fails. */
  private Reply alone(Fixture.Mixed r) {
    try {
      return result(submit("alone." + r.id(), r.prompt(), r.adapter(), r.expected().length, null));
    } catch (CompletionException e) {
      return new Reply(new int[0], new float[0]);
    }
  }

  /**
   * What a request gave.
   *
   * @param gaps distance of the best two logits at each step
   */
  private record Reply(int[] tokens, float[] gaps) {
    static Reply of(List<TokenEvent.Token> events) {
      int[] tokens = new int[events.size()];
      float[] gaps = new float[events.size()];
      for (int i = 0; i < tokens.length; i++) {
        tokens[i] = events.get(i).token();
        float[] best = events.get(i).logprobs().topLogprobs();
        gaps[i] = best[0] - best[1];
      }
      return new Reply(tokens, gaps);
    }
  }

  private static Reply result(CompletableFuture<Reply> reply) {
    return reply.orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS).join();
  }

  private CompletableFuture<Reply> submit(
      String name, int[] prompt, Optional<String> adapter, int maxTokens, PromptObserver observer) {
    GenerateRequest request =
        new GenerateRequest(
            fixture.name() + "." + name,
            prompt,
            adapter,
            SamplingParams.greedy(maxTokens).ignoringEos().reporting(2),
            observer != null);
    Multi<TokenEvent> events =
        observer == null ? engine.generate(request) : engine.generate(request, observer);
    return events
        .filter(TokenEvent.Token.class::isInstance)
        .map(TokenEvent.Token.class::cast)
        .collect()
        .asList()
        .map(Reply::of)
        .subscribeAsCompletionStage();
  }
}
