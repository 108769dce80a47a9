package io.infinilora.node;

import static io.infinilora.node.Generations.await;
import static io.infinilora.node.Generations.greedy;
import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.within;

import io.infinilora.backend.KvLayout;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import io.smallrye.mutiny.subscription.Cancellable;
import io.vertx.core.Future;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * A whole node on a tiny model with random weights: warming up, cancelling, refusing, queueing, and
 * what events say. {@link InvarianceTest} has what requests get.
 */
class EngineTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final int VOCAB = 320;
  private static final List<Optional<String>> ADAPTERS =
      List.of(Optional.empty(), Optional.of("a0"), Optional.of("a1"), Optional.of("a2"));

  private final List<EventLoopWatch> watches = new ArrayList<>();
  private Node node;

  private void start(
      LoraMode mode, int kvBlocks, int batchedTokens, int prefillChunk, boolean prefixCache) {
    start(mode, kvBlocks, batchedTokens, prefillChunk, prefixCache, EngineMetrics.NONE);
  }

  private void start(
      LoraMode mode,
      int kvBlocks,
      int batchedTokens,
      int prefillChunk,
      boolean prefixCache,
      EngineMetrics metrics) {
    long bytesPerBlock = KvBytes.ofBlock(new KvLayout(2, 1, 16, 2, 24));
    EventLoopWatch watch = new EventLoopWatch();
    watches.add(watch);
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
                        new ByteSize(kvBlocks * bytesPerBlock),
                        8,
                        300,
                        batchedTokens,
                        prefillChunk,
                        prefixCache,
                        EngineConfig.DEFAULT_POLICY,
                        Duration.ofSeconds(30))),
                metrics));
    assertThat(node.adapterReport().failures()).isEmpty();
    assertThat(node.schedulerConfig().kvBlocks()).isEqualTo(kvBlocks);
  }

  @AfterEach
  void stop() {
    if (node != null) {
      await(node.close());
    }
    watches.forEach(EventLoopWatch::assertSilent);
  }

  private void assertNothingHeld() {
    // Cancellation reaches the event loop behind this call's request, so wait for the engine to be
    // drained.
    await(node.engine().drain());
    assertThat(node.engine().load().running()).isZero();
    assertThat(node.engine().load().waiting()).isZero();
    assertThat(node.engine().load().kvBlocksUsed()).isZero();
    assertThat(node.engine().load().adaptersInUse()).isZero();
  }

  private static int[] prompt(long seed, int length) {
    return new Random(seed).ints(length, 3, VOCAB).toArray();
  }

  @ParameterizedTest
  @EnumSource
  void warmingUpLeavesNoTrace(LoraMode mode) {
    Optional<String> adapter = mode == LoraMode.NONE ? Optional.empty() : Optional.of("a1");
    start(mode, 4, 64, 64, true);
    List<Integer> expected = greedy(node.engine(), prompt(1, 40), adapter, 8).join();
    stop();
    List<String> reported = Collections.synchronizedList(new ArrayList<>());
    EngineMetrics recorder =
        (EngineMetrics)
            Proxy.newProxyInstance(
                EngineMetrics.class.getClassLoader(),
                new Class<?>[] {EngineMetrics.class},
                (proxy, method, args) -> {
                  reported.add(method.getName());
                  return null;
                });
    start(mode, 4, 64, 64, true, recorder);
    reported.clear(); // What there is to watch.
    await(node.engine().warmUp(Duration.ofMinutes(1)));
    assertThat(reported).isEmpty();
    assertThat(node.engine().load()).isEqualTo(new EngineLoad(0, 0, 0, 4, 0));
    // What warm-up computed on must not count as a known prefix.
    int[] ascending = IntStream.range(0, 40).toArray();
    TokenEvent.Finished end =
        (TokenEvent.Finished)
            node.engine()
                .generate(
                    new GenerateRequest(
                        "ascending", ascending, adapter, SamplingParams.greedy(1).ignoringEos()))
                .collect()
                .last()
                .await()
                .atMost(Duration.ofMinutes(1));
    assertThat(end.cachedPromptTokens()).isZero();
    assertThat(reported).contains("queued", "step", "released").doesNotContain("abandoned");
    assertThat(greedy(node.engine(), prompt(1, 40), adapter, 8).join()).isEqualTo(expected);
    assertNothingHeld();
  }

  @ParameterizedTest
  @EnumSource
  void aRequestEndsTheWarmUpAndIsServed(LoraMode mode) {
    start(mode, 8, 64, 64, true);
    List<Integer> first = greedy(node.engine(), prompt(2, 20), Optional.empty(), 5).join();
    // After the first request there is nothing to warm up, and cached blocks to spoil.
    await(node.engine().warmUp(Duration.ofMinutes(1)));
    assertThat(greedy(node.engine(), prompt(2, 20), Optional.empty(), 5).join()).isEqualTo(first);
    stop();
    start(mode, 8, 64, 64, true);
    Future<Void> warmUp = node.engine().warmUp(Duration.ofMinutes(1));
    assertThat(greedy(node.engine(), prompt(2, 20), Optional.empty(), 5).join()).isEqualTo(first);
    await(warmUp);
    assertNothingHeld();
  }

  @ParameterizedTest
  @EnumSource(LoraMode.class)
  void cancelledRequestsGiveEverythingBackAndHarmNobody(LoraMode mode) throws InterruptedException {
    start(mode, 64, 32, 16, true);
    Optional<String> adapter = mode == LoraMode.NONE ? Optional.empty() : Optional.of("a1");
    CompletableFuture<List<Integer>> survivor = greedy(node.engine(), prompt(7, 20), adapter, 60);
    for (int wave = 0; wave < 4; wave++) {
      CountDownLatch running = new CountDownLatch(4);
      List<Cancellable> leavers = new ArrayList<>();
      for (int i = 0; i < 16; i++) { // 8 run, 8 wait.
        leavers.add(leaver("leaver-%d-%d".formatted(wave, i), prompt(i, 30), adapter, running));
      }
      assertThat(running.await(60, TimeUnit.SECONDS)).isTrue();
      leavers.forEach(Cancellable::cancel);
    }

    assertThat(survivor.join()).isEqualTo(greedyAgain(prompt(7, 20), adapter, 60));
    assertNothingHeld();
  }

  /** A long request whose first token counts the latch down. */
  private Cancellable leaver(
      String id, int[] prompt, Optional<String> adapter, CountDownLatch running) {
    return node.engine()
        .generate(
            new GenerateRequest(id, prompt, adapter, SamplingParams.greedy(200).ignoringEos()))
        .subscribe()
        .with(
            event -> {
              if (event instanceof TokenEvent.Token t && t.index() == 0) {
                running.countDown();
              }
            });
  }

  private List<Integer> greedyAgain(int[] prompt, Optional<String> adapter, int tokens) {
    return greedy(node.engine(), prompt, adapter, tokens).join();
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "DISAGGREGATED")
  void badRequestsAreRefusedByName(LoraMode mode) {
    start(mode, 8, 32, 16, true);

    assertRefused(prompt(1, 4), Optional.of("nobody"), ErrorCode.MODEL_NOT_FOUND, "nobody");
    assertRefused(
        new int[] {1, VOCAB}, Optional.empty(), ErrorCode.INVALID_REQUEST, "token 320 at index 1");
    assertRefused(
        new int[] {-1}, Optional.empty(), ErrorCode.INVALID_REQUEST, "token -1 at index 0");
    assertRefused(prompt(1, 128), Optional.empty(), ErrorCode.CONTEXT_LENGTH_EXCEEDED, "128");
    assertNothingHeld();
  }

  private void assertRefused(
      int[] prompt, Optional<String> adapter, ErrorCode code, String message) {
    assertThatThrownBy(() -> greedy(node.engine(), prompt, adapter, 4).join())
        .isInstanceOf(CompletionException.class)
        .cause()
        .isInstanceOfSatisfying(
            InfiniLoraException.class,
            e -> {
              assertThat(e.code()).isEqualTo(code);
              assertThat(e).hasMessageContaining(message);
            });
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "DISAGGREGATED")
  void twoHundredRequestsQueueAndTheOverflowIsRefused(LoraMode mode) {
    start(mode, 64, 32, 16, true);
    List<CompletableFuture<List<Integer>>> running = new ArrayList<>();
    for (int i = 0; i < 400; i++) {
      running.add(greedy(node.engine(), prompt(i, 8), ADAPTERS.get(i % 4), 4));
    }
    int served = 0;
    int refused = 0;
    for (CompletableFuture<List<Integer>> f : running) {
      try {
        assertThat(f.join()).hasSize(4);
        served++;
      } catch (CompletionException e) {
        assertThat(((InfiniLoraException) e.getCause()).code()).isEqualTo(ErrorCode.OVERLOADED);
        refused++;
      }
    }
    assertThat(served).isGreaterThanOrEqualTo(300);
    assertThat(served + refused).isEqualTo(400);
    assertNothingHeld();
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "COUPLED")
  void aSeedGivesTheSameDrawsInAnyCompany(LoraMode mode) {
    start(mode, 64, 32, 16, true);
    SamplingParams sampled =
        new SamplingParams(
            1.2, 0.95, 50, 0.01, 1.1, 0.5, 0.3, 4711, Map.of(5, 2.0), List.of(), 24, true, -1);
    List<Integer> alone =
        Generations.tokens(node.engine(), prompt(3, 12), Optional.of("a2"), sampled).join();
    List<CompletableFuture<List<Integer>>> company = new ArrayList<>();
    for (int i = 0; i < 6; i++) {
      company.add(greedy(node.engine(), prompt(i, 25), ADAPTERS.get(i % 4), 24));
    }

    assertThat(Generations.tokens(node.engine(), prompt(3, 12), Optional.of("a2"), sampled).join())
        .isEqualTo(alone);
    company.forEach(CompletableFuture::join);
    SamplingParams otherSeed =
        new SamplingParams(
            1.2, 0.95, 50, 0.01, 1.1, 0.5, 0.3, 4712, Map.of(5, 2.0), List.of(), 24, true, -1);
    assertThat(
            Generations.tokens(node.engine(), prompt(3, 12), Optional.of("a2"), otherSeed).join())
        .isNotEqualTo(alone);
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "DISAGGREGATED")
  void eventsComeInOrderAndEndWithTheUsage(LoraMode mode) {
    start(mode, 64, 32, 16, true);
    int[] prompt = prompt(1, 37);
    for (int cached :
        new int[] {0, 32}) { // The second time, two full blocks of 16 are found again.
      List<TokenEvent> events =
          node.engine()
              .generate(
                  new GenerateRequest(
                      "r", prompt, Optional.of("a0"), SamplingParams.greedy(6).ignoringEos()))
              .collect()
              .asList()
              .await()
              .atMost(Duration.ofSeconds(60));
      for (int i = 0; i < 6; i++) {
        assertThat(((TokenEvent.Token) events.get(i)).index()).isEqualTo(i);
      }
      assertThat(events.get(6))
          .isEqualTo(new TokenEvent.Finished(FinishReason.LENGTH, 37, cached, 6));
      assertThat(events).hasSize(7);
    }
    assertThat(node.engine().adapters())
        .extracting(AdapterId::name)
        .containsExactly("a0", "a1", "a2");
  }

  @ParameterizedTest
  @EnumSource(value = LoraMode.class, names = "DISAGGREGATED")
  void promptLogprobsAgreeWithTheTokensLogprobs(LoraMode mode) {
    start(mode, 64, 32, 8, true);
    SamplingParams reporting =
        new SamplingParams(0, 1, 0, 0, 1, 0, 0, 0, Map.of(), List.of(), 5, true, 3);
    int[] prompt = prompt(5, 21);
    List<TokenEvent.Token> generated =
        node.engine()
            .generate(new GenerateRequest("first", prompt, Optional.of("a1"), reporting))
            .filter(TokenEvent.Token.class::isInstance)
            .map(TokenEvent.Token.class::cast)
            .collect()
            .asList()
            .await()
            .atMost(Duration.ofSeconds(60));
    int[] longer = Arrays.copyOf(prompt, prompt.length + 5);
    for (int i = 0; i < 5; i++) {
      longer[prompt.length + i] = generated.get(i).token();
    }

    TokenEvent first =
        node.engine()
            .generate(new GenerateRequest("second", longer, Optional.of("a1"), reporting, true))
            .toUni()
            .await()
            .atMost(Duration.ofSeconds(60));

    TokenEvent.Prompt echoed = (TokenEvent.Prompt) first;
    assertThat(echoed.logprobs()).hasSize(longer.length);
    for (int i = 0; i < 5; i++) {
      assertThat(echoed.logprobs().get(prompt.length + i).logprob())
          .isCloseTo(generated.get(i).logprobs().logprob(), within(1e-5f));
      assertThat(echoed.logprobs().get(prompt.length + i).topTokens())
          .isEqualTo(generated.get(i).logprobs().topTokens());
    }
  }
}
