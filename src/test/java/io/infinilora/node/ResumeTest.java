package io.infinilora.node;

import static io.infinilora.node.Generations.await;
import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.fake.StepGate;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import org.assertj.core.api.recursive.comparison.RecursiveComparisonConfiguration;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Generations that go on from tokens that another engine has emitted. */
class ResumeTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final int VOCAB = 320;
  private static final int TOKENS = 12;
  private static final int[] PROMPT = new Random(8).ints(37, 3, VOCAB).toArray();

  private static final RecursiveComparisonConfiguration EXACTLY =
      RecursiveComparisonConfiguration.builder()
          .withComparatorForType(Float::compare, Float.class)
          .build();

  private final EventLoopWatch watch = new EventLoopWatch();
  private final StepGate gate = new StepGate(EngineMetrics.NONE);
  private Node node;
  private int requests;

  private void start(LoraMode mode) {
    node =
        await(
            Node.start(
                watch.vertx(),
                new InfiniLoraConfig(
                    Optional.of(MODEL),
                    Optional.of(MODEL.resolve("adapters")),
                    mode,
                    ServerConfig.DEFAULTS,
                    new EngineConfig(
                        Optional.of(2),
                        Optional.of(1),
                        Optional.empty(),
                        new ByteSize(64L * 2 * 2 * 2 * 24 * 16 * Float.BYTES),
                        8,
                        64,
                        32,
                        16,
                        true,
                        EngineConfig.DEFAULT_POLICY,
                        Duration.ofSeconds(30))),
                gate));
  }

  @AfterEach
  void stop() {
    gate.open();
    await(node.close());
    watch.assertSilent();
  }

  private CompletableFuture<List<TokenEvent>> submit(
      SamplingParams sampling,
      Optional<String> adapter,
      boolean promptLogprobs,
      int[] generated,
      Optional<TokenEvent.Started> started) {
    return node.engine()
        .generate(
            new GenerateRequest(
                "r" + requests++,
                PROMPT,
                adapter,
                sampling,
                promptLogprobs,
                true,
                generated,
                started))
        .collect()
        .asList()
        .subscribeAsCompletionStage()
        .orTimeout(120, TimeUnit.SECONDS);
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void everySplitPointGivesTheSameEvents(LoraMode mode) {
    start(mode);
    SamplingParams greedy =
        new SamplingParams(0, 1, 0, 0, 1, 0, 0, 0, Map.of(), List.of(), TOKENS, true, 3);
    SamplingParams sampled =
        new SamplingParams(
            1.3, 0.95, 50, 0.01, 1.2, 0.7, 0.4, 4711, Map.of(5, 3.0), List.of(), TOKENS, true, 2);
    for (SamplingParams sampling : List.of(greedy, sampled)) {
      for (Optional<String> adapter : List.of(Optional.<String>empty(), Optional.of("a1"))) {
        List<TokenEvent> whole =
            submit(sampling, adapter, false, new int[0], Optional.empty()).join();
        TokenEvent.Started started = (TokenEvent.Started) whole.getFirst();
        assertThat(started.adapter().map(AdapterId::name)).isEqualTo(adapter);
        int[] tokens =
            whole.subList(1, 1 + TOKENS).stream()
                .mapToInt(event -> ((TokenEvent.Token) event).token())
                .toArray();
        List<CompletableFuture<List<TokenEvent>>> resumed = new ArrayList<>();
        for (int split = 1; split < TOKENS; split++) {
          resumed.add(
              submit(sampling, adapter, false, Arrays.copyOf(tokens, split), Optional.of(started)));
        }
        for (int split = 1; split < TOKENS; split++) {
          List<TokenEvent> expected = new ArrayList<>(whole.subList(1 + split, whole.size()));
          expected.addFirst(started);
          assertThat(resumed.get(split - 1).join())
              .as("%s, %s, split %d", sampling, adapter, split)
              .usingRecursiveComparison(EXACTLY)
              .isEqualTo(expected);
        }
      }
    }
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "COUPLED")
  void thePromptsLogprobsAreThoseOfThePromptAlone(LoraMode mode) {
    start(mode);
    SamplingParams sampling = SamplingParams.greedy(TOKENS).ignoringEos();
    List<TokenEvent> whole =
        submit(sampling, Optional.empty(), true, new int[0], Optional.empty()).join();
    int[] tokens = {((TokenEvent.Token) whole.get(2)).token()};
    List<TokenEvent> resumed =
        submit(sampling, Optional.empty(), true, tokens, Optional.empty()).join();
    assertThat(resumed.get(1)).usingRecursiveComparison(EXACTLY).isEqualTo(whole.get(1));
    assertThat(resumed.get(2)).usingRecursiveComparison(EXACTLY).isEqualTo(whole.get(3));
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE", mode = EnumSource.Mode.EXCLUDE)
  void theAdapterGenerationOfTheStartComputesTheRestOrNobody(LoraMode mode) {
    start(mode);
    SamplingParams sampling = SamplingParams.greedy(TOKENS).ignoringEos();
    Optional<String> a0 = Optional.of("a0");
    List<TokenEvent> whole = submit(sampling, a0, false, new int[0], Optional.empty()).join();
    Optional<TokenEvent.Started> started = Optional.of((TokenEvent.Started) whole.getFirst());
    int[] tokens = {((TokenEvent.Token) whole.get(1)).token()};

    gate.allow(0);
    CompletableFuture<List<TokenEvent>> running =
        submit(sampling, a0, false, new int[0], Optional.empty());
    gate.awaitHeld();
    node.engine()
        .adapterAdmin()
        .load(AdapterRegistration.own("a0", MODEL.resolve("adapters/a1").toString()))
        .await()
        .atMost(Duration.ofSeconds(60));
    // A request still uses the old generation, so another one may.
    CompletableFuture<List<TokenEvent>> held = submit(sampling, a0, false, tokens, started);
    CompletableFuture<List<TokenEvent>> fresh =
        submit(sampling, a0, false, new int[0], Optional.empty());
    gate.open();
    running.join();
    List<TokenEvent> expected = new ArrayList<>(whole);
    expected.remove(1);
    assertThat(held.join()).usingRecursiveComparison(EXACTLY).isEqualTo(expected);
    assertThat(((TokenEvent.Started) fresh.join().getFirst()).adapter())
        .isNotEqualTo(started.get().adapter());

    assertConflict(submit(sampling, a0, false, tokens, started), "replaced");
    node.engine()
        .adapterAdmin()
        .unload("a0", WhenInUse.WAIT)
        .await()
        .atMost(Duration.ofSeconds(60));
    assertConflict(submit(sampling, a0, false, tokens, started), "unloaded");
  }

  private static void assertConflict(CompletableFuture<?> answer, String reason) {
    assertThat(answer)
        .failsWithin(Duration.ofSeconds(60))
        .withThrowableThat()
        .havingCause()
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.CONFLICT))
        .withMessageContaining("adapter a0@")
        .withMessageContaining(reason);
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "NONE")
  void aGeneratedTokenOutsideTheVocabularyIsRefused(LoraMode mode) {
    start(mode);
    assertThat(
            submit(
                    SamplingParams.greedy(5),
                    Optional.empty(),
                    false,
                    new int[] {1, VOCAB},
                    Optional.empty())
                .handle((events, e) -> e instanceof CompletionException c ? c.getCause() : e)
                .join())
        .hasMessageContaining("generated token 320 at index 1");
  }
}
