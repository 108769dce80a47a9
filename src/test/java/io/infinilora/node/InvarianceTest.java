package io.infinilora.node;

import static io.infinilora.node.Generations.await;
import static io.infinilora.node.Generations.greedy;
import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.KvLayout;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.LoraMode;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.fake.StepGate;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.weights.Upcycling;
import io.smallrye.mutiny.Multi;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.IntPredicate;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * Tokens and logits of a request are the same bits, whatever shares its batch, however its prompt
 * is cut, whether a prefix is found again, after a preemption, and in either LoRA mode. No
 * reference is needed: each request is compared with itself, alone.
 */
class InvarianceTest {
  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");
  private static final List<Optional<String>> ADAPTERS =
      List.of(Optional.of("a1"), Optional.empty(), Optional.of("a2"), Optional.of("a0"));

  /** Those of one block grow to three; several fill the rows of a step and a chunk, or do not. */
  private static final int[] LENGTHS = {4, 11, 15, 81, 13, 15, 60, 16, 14, 33, 15, 45};

  /** Index of the longest. */
  private static final int LONGEST = 3;

  private static final int TOKENS = 24;
  private static final int KV_BLOCK = 16;

  /** Log-probabilities come from the logits, as many as can be asked for. */
  private static final SamplingParams SAMPLING =
      new SamplingParams(
          0, 1, 0, 0, 1, 0, 0, 0, Map.of(), List.of(), TOKENS, true, SamplingParams.MAX_LOGPROBS);

  @TempDir Path folder;

  private final List<EventLoopWatch> watches = new ArrayList<>();
  private final AtomicInteger preemptions = new AtomicInteger();
  private final StepGate gate =
      new StepGate(
          new EngineMetrics() {
            @Override
            public void preempted(Optional<String> adapter) {
              preemptions.incrementAndGet();
            }
          });
  private Path model;
  private ModelSpec spec;
  private Node node;

  /**
   * What one request got.
   *
   * @param tokens its tokens and their log-probabilities
   * @param positions prompt positions in the order in which their logits came, some perhaps again
   * @param logits of these positions; empty if nobody watched
   * @param cached prompt tokens that were not computed
   */
  private record Outcome(
      List<TokenEvent.Token> tokens, List<Integer> positions, List<float[]> logits, int cached) {

    List<Integer> ids() {
      return tokens.stream().map(TokenEvent.Token::token).toList();
    }

    void assertSame(Outcome alone, String request) {
      assertThat(ids()).as(request).isEqualTo(alone.ids());
      for (int i = 0; i < tokens.size(); i++) {
        assertThat(tokens.get(i).logprobs())
            .as("%s, token %d", request, i)
            .usingRecursiveComparison()
            .isEqualTo(alone.tokens.get(i).logprobs());
      }
      for (int i = 0; i < positions.size(); i++) {
        assertThat(logits.get(i))
            .as("%s, logits of position %d", request, positions.get(i))
            .isEqualTo(alone.logits.get(positions.get(i)));
      }
    }
  }

  static Stream<Arguments> modelsInBothModes() {
    return Stream.of("llama", "qwen3", "mixtral", "qwen3_moe", "gpt_oss", "dbrx", "mixtral_odd")
        .flatMap(
            name ->
                Stream.of(LoraMode.COUPLED, LoraMode.DISAGGREGATED)
                    .map(mode -> Arguments.of(name, mode)));
  }

  private void choose(Path directory) {
    model = directory;
    try (Checkpoint checkpoint = Checkpoints.open(directory)) {
      spec = checkpoint.spec();
    }
  }

  private void start(
      LoraMode mode, Path adapters, int kvBlocks, int batchedTokens, int chunk, boolean prefix) {
    ModelSpec.Attention attention = spec.attention();
    long bytesPerBlock =
        KvBytes.ofBlock(
            new KvLayout(spec.layers(), 1, KV_BLOCK, attention.kvHeads(), attention.headDim()));
    EngineConfig engine =
        new EngineConfig(
            Optional.of(2),
            Optional.of(1),
            Optional.of(128),
            new ByteSize(kvBlocks * bytesPerBlock),
            8,
            64,
            batchedTokens,
            chunk,
            prefix,
            EngineConfig.DEFAULT_POLICY,
            Duration.ofSeconds(30));
    EventLoopWatch watch = new EventLoopWatch();
    watches.add(watch);
    node =
        await(
            Node.start(
                watch.vertx(),
                new InfiniLoraConfig(
                    Optional.of(model), Optional.of(adapters), mode, ServerConfig.DEFAULTS, engine),
                gate));
    assertThat(node.schedulerConfig().kvBlocks()).isEqualTo(kvBlocks);
  }

  @AfterEach
  void stop() {
    if (node != null) {
      await(node.close());
      node = null;
    }
    watches.forEach(EventLoopWatch::assertSilent);
  }

  /** Prompts that begin with the same tokens, under whatever adapter. */
  private List<int[]> prompts() {
    int[] shared = new Random(99).ints(32, 3, spec.vocab()).toArray();
    List<int[]> prompts = new ArrayList<>();
    for (int i = 0; i < LENGTHS.length; i++) {
      int[] prompt = new Random(i).ints(LENGTHS[i], 3, spec.vocab()).toArray();
      System.arraycopy(shared, 0, prompt, 0, Math.min(shared.length, prompt.length / 2));
      prompts.add(prompt);
    }
    return prompts;
  }

  private CompletableFuture<Outcome> submit(int i, int[] prompt, boolean watched) {
    List<Integer> positions = new ArrayList<>();
    List<float[]> logits = new ArrayList<>();
    GenerateRequest request =
        new GenerateRequest("r" + i, prompt, ADAPTERS.get(i % 4), SAMPLING, watched);
    Multi<TokenEvent> events =
        watched
            ? node.engine()
                .generate(
                    request,
                    (position, row) -> {
                      positions.add(position);
                      logits.add(row.clone());
                    })
            : node.engine().generate(request);
    return events
        .collect()
        .asList()
        .subscribeAsCompletionStage()
        .orTimeout(120, TimeUnit.SECONDS)
        .thenApply(
            all ->
                new Outcome(
                    all.stream()
                        .filter(TokenEvent.Token.class::isInstance)
                        .map(TokenEvent.Token.class::cast)
                        .toList(),
                    positions,
                    logits,
                    ((TokenEvent.Finished) all.getLast()).cachedPromptTokens()));
  }

  /** Asks for some of the prompts at once. */
  private Map<Integer, Outcome> together(
      List<int[]> prompts, IntPredicate chosen, boolean watched) {
    Map<Integer, CompletableFuture<Outcome>> running = new TreeMap<>();
    // All come while the first step is held, and their adapters are there before it ends.
    gate.allow(0);
    for (int i = 0; i < prompts.size(); i++) {
      if (chosen.test(i)) {
        running.put(i, submit(i, prompts.get(i), watched));
      }
    }
    gate.awaitHeld();
    awaitAdapters();
    gate.open();
    Map<Integer, Outcome> outcomes = new TreeMap<>();
    running.forEach((i, outcome) -> outcomes.put(i, outcome.join()));
    return outcomes;
  }

  /** Waits until every adapter is claimed and complete, as the shards and then the engine know. */
  private void awaitAdapters() {
    List<AdapterStatus> adapters;
    do {
      adapters = node.engine().adapterAdmin().list().await().atMost(Duration.ofMinutes(2));
    } while (adapters.stream()
        .anyMatch(a -> a.claims() == 0 || a.tier() != AdapterStatus.Tier.DEVICE));
  }

  @ParameterizedTest
  @MethodSource("modelsInBothModes")
  void aRequestGetsTheSameBitsInAnyCompany(String name, LoraMode mode) {
    choose(FIXTURES.resolve(name));
    Path adapters = model.resolve("adapters");
    List<int[]> prompts = prompts();
    start(LoraMode.COUPLED, adapters, 64, 256, 256, false);
    List<Outcome> alone = new ArrayList<>();
    for (int i = 0; i < LENGTHS.length; i++) {
      alone.add(submit(i, prompts.get(i), true).join());
      assertThat(alone.get(i).logits()).hasSize(prompts.get(i).length);
    }
    stop();

    // Eight may run. Those with prompts of one block all begin, and grow to three blocks each.
    start(mode, adapters, 10, 48, 9, true);
    for (boolean watched : new boolean[] {true, false}) {
      together(prompts, i -> true, watched)
          .forEach((i, outcome) -> outcome.assertSame(alone.get(i), "request " + i));
      together(prompts, i -> LENGTHS[i] <= KV_BLOCK, watched)
          .forEach((i, outcome) -> outcome.assertSame(alone.get(i), "short request " + i));
    }
    assertThat(preemptions).hasPositiveValue();
    for (int i = 0; i < 2; i++) {
      Outcome again = submit(LONGEST, prompts.get(LONGEST), false).join();
      again.assertSame(alone.get(LONGEST), "again");
      assertThat(i == 0 || again.cached() >= 4 * KV_BLOCK).isTrue();
    }
    assertThat(alone.stream().map(Outcome::ids).distinct()).hasSizeGreaterThan(LENGTHS.length / 2);
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void anUpcycledModelAnswersAsTheDenseOne(LoraMode mode) {
    Path dense = FIXTURES.resolve("llama");
    Path upcycled = folder.resolve("upcycled");
    new Upcycling(5, 3, 7).write(dense, upcycled);
    choose(dense);
    List<int[]> prompts = prompts();
    List<List<Integer>> expected = attentionAdapterAndNone(mode, prompts, 64, 256);
    assertThat(expected).doesNotHaveDuplicates();

    choose(upcycled);
    assertThat(spec.mlp().moe().experts()).isEqualTo(5);
    assertThat(attentionAdapterAndNone(mode, prompts, 24, 9)).isEqualTo(expected);
  }

  /** Tokens of every prompt on the base model and on the one adapter that fits both models. */
  private List<List<Integer>> attentionAdapterAndNone(
      LoraMode mode, List<int[]> prompts, int kvBlocks, int chunk) {
    start(mode, FIXTURES.resolve("llama/adapters"), kvBlocks, 16, chunk, true);
    List<CompletableFuture<List<Integer>>> running = new ArrayList<>();
    for (int[] prompt : prompts) {
      running.add(greedy(node.engine(), prompt, Optional.empty(), TOKENS));
      running.add(greedy(node.engine(), prompt, Optional.of("a0"), TOKENS));
    }
    List<List<Integer>> tokens = running.stream().map(CompletableFuture::join).toList();
    stop();
    return tokens;
  }
}
