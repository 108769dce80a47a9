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
    if (arithmetic == Arithmetic.BF16) {
      variants.forEach(this::norm);
    }
  }

  private CaseResult check(Fixture.Case c, LogitCheck check) {
    int[] tokens;
    try {
      tokens = result(submit(c.name(), c.prompt(), c.adapter(), c.greedy().length, check));
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
    List<int[]> expected = new ArrayList<>();
    for (Fixture.Mixed r : requests) {
      // Rounded rows may lead to other tokens than the reference's, but not to other ones in a
      // batch than alone.
      expected.add(arithmetic == Arithmetic.FLOAT32 ? r.expected() : alone(r));
    }
    List<CompletableFuture<int[]>> running = new ArrayList<>();
    for (Fixture.Mixed r : requests) {
      running.add(submit("mixed." + r.id(), r.prompt(), r.adapter(), r.expected().length, null));
    }
    for (int i = 0; i < requests.size(); i++) {
      String name = "mixed." + requests.get(i).id();
      try {
        sink.accept(tokens(name, Double.NaN, expected.get(i), result(running.get(i))));
      } catch (CompletionException e) {
        sink.accept(CaseResult.fail(fixture.name(), name, Double.NaN, e.getCause().toString()));
      }
    }
  }

  /** What a request gives with nothing beside it; empty if it fails. */
  private int[] alone(Fixture.Mixed r) {
    try {
      return result(submit("alone." + r.id(), r.prompt(), r.adapter(), r.expected().length, null));
    } catch (CompletionException e) {
      return new int[0];
    }
  }

  private static int[] result(CompletableFuture<int[]> tokens) {
    return tokens.orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS).join();
  }

  private CompletableFuture<int[]> submit(
      String name, int[] prompt, Optional<String> adapter, int maxTokens, PromptObserver observer) {
    GenerateRequest request =
        new GenerateRequest(
            fixture.name() + "." + name,
            prompt,
            adapter,
            SamplingParams.greedy(maxTokens).ignoringEos(),
            observer != null);
    Multi<TokenEvent> events =
        observer == null ? engine.generate(request) : engine.generate(request, observer);
    return events
        .filter(TokenEvent.Token.class::isInstance)
        .map(e -> ((TokenEvent.Token) e).token())
        .collect()
        .asList()
        .map(list -> list.stream().mapToInt(Integer::intValue).toArray())
        .subscribeAsCompletionStage();
  }
}
