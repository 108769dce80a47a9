package io.infinilora.verify;

import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TensorView;
import io.infinilora.core.TokenEvent;
import io.infinilora.engine.PromptObserver;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.node.Node;
import io.infinilora.weights.SafetensorsFile;
import io.smallrye.mutiny.Multi;
import io.vertx.core.Vertx;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;

/**
 * Runs fixtures through a whole node: every case for its logits and greedy tokens, then the mixed
 * batch at once. Blocks; not for event loops.
 */
public final class Verifier {
  /** Largest absolute error of a logit in float32 arithmetic. */
  static final double TOLERANCE = 2e-3;

  private static final Duration PATIENCE = Duration.ofMinutes(2);
  private static final long KV_BYTES = 16L << 20;
  private static final long ADAPTER_BYTES = 64L << 20;
  // Small, so that the longer prompts of the fixtures go through several chunks and share steps.
  private static final int BATCHED_TOKENS = 64;
  private static final int PREFILL_CHUNK = 24;

  private final LoraMode mode;
  private final LoraGrid shards;

  /** A verifier for one LoRA mode with an undivided LoRA server. */
  public Verifier(LoraMode mode) {
    this(mode, LoraGrid.SINGLE);
  }

  /**
   * A verifier for one LoRA mode. In mode {@code none} only cases without an adapter are run.
   *
   * @param shards how the LoRA server is divided in mode {@code disaggregated}
   */
  public Verifier(LoraMode mode, LoraGrid shards) {
    this.mode = mode;
    this.shards = shards;
  }

  /**
   * Verifies all fixtures below {@code root}.
   *
   * @param filter only folders whose name contains it; empty for all
   * @param sink gets each result at once
   * @return number of failures
   * @throws InfiniLoraException BAD_CONFIG if there is no fixture
   */
  public int verify(Path root, Optional<String> filter, Consumer<CaseResult> sink) {
    List<Path> found =
        Fixture.find(root).stream()
            .filter(p -> filter.isEmpty() || p.getFileName().toString().contains(filter.get()))
            .toList();
    if (found.isEmpty()) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "%s holds no fixture%s"
              .formatted(root, filter.map(f -> " whose name contains " + f).orElse("")));
    }
    int[] failures = {0};
    for (Path directory : found) {
      verifyOne(
          directory,
          result -> {
            failures[0] += result.status() == CaseResult.Status.FAIL ? 1 : 0;
            sink.accept(result);
          });
    }
    return failures[0];
  }

  private void verifyOne(Path directory, Consumer<CaseResult> sink) {
    String name = directory.getFileName().toString();
    Vertx vertx = Vertx.vertx();
    Node node = null;
    try {
      Fixture fixture = Fixture.read(directory);
      node = await(Node.start(vertx, settings(directory), EngineMetrics.NONE));
      for (InfiniLoraException refused : node.adapterReport().failures()) {
        sink.accept(CaseResult.fail(name, "load", Double.NaN, refused.getMessage()));
      }
      cases(fixture, node, sink);
      mixed(fixture, node, sink);
    } catch (RuntimeException e) {
      Throwable cause = e instanceof CompletionException && e.getCause() != null ? e.getCause() : e;
      sink.accept(
          cause instanceof InfiniLoraException i && i.code() == ErrorCode.UNSUPPORTED_MODEL
              ? CaseResult.skip(name, cause.getMessage())
              : CaseResult.fail(name, "load", Double.NaN, cause.toString()));
    } finally {
      await(node == null ? vertx.close() : node.close());
    }
  }

  private InfiniLoraConfig settings(Path directory) {
    Path adapters = directory.resolve("adapters");
    int threads = Runtime.getRuntime().availableProcessors();
    return new InfiniLoraConfig(
            Optional.of(directory),
            Files.isDirectory(adapters) ? Optional.of(adapters) : Optional.empty(),
            mode,
            ServerConfig.DEFAULTS,
            new EngineConfig(
                Optional.of(threads),
                Optional.of(1),
                Optional.empty(),
                new ByteSize(KV_BYTES),
                16,
                64,
                BATCHED_TOKENS,
                PREFILL_CHUNK,
                true,
                EngineConfig.DEFAULT_POLICY,
                Duration.ofSeconds(30)))
        .withLora(
            new LoraConfig(
                new ByteSize(ADAPTER_BYTES),
                new ByteSize(0),
                Eviction.LRU,
                shards,
                Duration.ofSeconds(30),
                LoraConfig.DEFAULT_RETRY_FOR));
  }

  private void cases(Fixture fixture, Node node, Consumer<CaseResult> sink) {
    try (Arena arena = Arena.ofShared()) {
      SafetensorsFile expected =
          SafetensorsFile.open(
              fixture.directory().resolve("expected.safetensors"), ErrorCode.BAD_CONFIG, arena);
      for (Fixture.Case c : fixture.cases()) {
        if (c.adapter().isPresent() && mode == LoraMode.NONE) {
          continue;
        }
        sink.accept(check(fixture.name(), c, expected.view(c.logitsKey()), node));
      }
    }
  }

  private CaseResult check(String fixture, Fixture.Case c, TensorView expected, Node node) {
    LogitCheck check = new LogitCheck(expected, c.allPositions() ? 0 : c.prompt().length - 1);
    int[] tokens;
    try {
      tokens =
          run(node, fixture + "." + c.name(), c.prompt(), c.adapter(), c.greedy().length, check);
    } catch (RuntimeException e) {
      return CaseResult.fail(fixture, c.name(), Double.NaN, e.toString());
    }
    double worst = check.worst();
    if (!(worst <= TOLERANCE)) {
      return CaseResult.fail(fixture, c.name(), worst, "logits differ by more than " + TOLERANCE);
    }
    return tokens(fixture, c.name(), worst, c.greedy(), tokens);
  }

  private static CaseResult tokens(
      String fixture, String name, double worst, int[] expected, int[] actual) {
    int at = Arrays.mismatch(expected, actual);
    return at < 0
        ? CaseResult.pass(fixture, name, worst)
        : CaseResult.fail(
            fixture,
            name,
            worst,
            "tokens differ at step %d: expected %s, got %s"
                .formatted(at, Arrays.toString(expected), Arrays.toString(actual)));
  }

  private void mixed(Fixture fixture, Node node, Consumer<CaseResult> sink) {
    List<Fixture.Mixed> requests =
        fixture.mixedBatch().stream()
            .filter(r -> r.adapter().isEmpty() || mode != LoraMode.NONE)
            .toList();
    List<CompletableFuture<int[]>> running = new ArrayList<>();
    for (Fixture.Mixed r : requests) {
      running.add(
          submit(
              node,
              fixture.name() + ".mixed." + r.id(),
              r.prompt(),
              r.adapter(),
              r.expected().length,
              null));
    }
    for (int i = 0; i < requests.size(); i++) {
      Fixture.Mixed r = requests.get(i);
      String name = "mixed." + r.id();
      try {
        sink.accept(
            tokens(
                fixture.name(),
                name,
                Double.NaN,
                r.expected(),
                running.get(i).orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS).join()));
      } catch (CompletionException e) {
        sink.accept(CaseResult.fail(fixture.name(), name, Double.NaN, e.getCause().toString()));
      }
    }
  }

  private static int[] run(
      Node node,
      String id,
      int[] prompt,
      Optional<String> adapter,
      int maxTokens,
      PromptObserver observer) {
    return submit(node, id, prompt, adapter, maxTokens, observer)
        .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS)
        .join();
  }

  private static CompletableFuture<int[]> submit(
      Node node,
      String id,
      int[] prompt,
      Optional<String> adapter,
      int maxTokens,
      PromptObserver observer) {
    GenerateRequest request =
        new GenerateRequest(
            id, prompt, adapter, SamplingParams.greedy(maxTokens).ignoringEos(), observer != null);
    Multi<TokenEvent> events =
        observer == null
            ? node.engine().generate(request)
            : node.engine().generate(request, observer);
    return events
        .filter(TokenEvent.Token.class::isInstance)
        .map(e -> ((TokenEvent.Token) e).token())
        .collect()
        .asList()
        .map(list -> list.stream().mapToInt(Integer::intValue).toArray())
        .subscribeAsCompletionStage();
  }

  private static <T> T await(io.vertx.core.Future<T> future) {
    return future
        .toCompletionStage()
        .toCompletableFuture()
        .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS)
        .join();
  }
}
