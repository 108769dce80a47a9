package io.infinilora.gateway;

import static io.infinilora.gateway.Cluster.engine;
import static io.infinilora.gateway.Cluster.tokens;
import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.OverloadedException;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.fake.FakeEngine;
import io.infinilora.fake.Script;
import io.infinilora.metrics.GatewayMetrics;
import io.infinilora.wire.BaseCall;
import io.infinilora.wire.StreamMessage;
import io.smallrye.mutiny.helpers.test.AssertSubscriber;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Queue;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Bases that are lost in the middle of a stream, and messages that are. */
class ResumptionTest {
  private static final int[] OUTPUT = IntStream.range(0, 200).map(i -> 100 + i).toArray();
  private static final Script WHOLE = Script.tokens(OUTPUT);

  private final CompletableFuture<Boolean> never = new CompletableFuture<>();
  private final Queue<String> counted = new ConcurrentLinkedQueue<>();
  private Cluster cluster;

  private void start(ClusterTimes times) {
    cluster =
        new Cluster(
            times,
            new GatewayMetrics() {
              @Override
              public void routed(String base) {
                counted.add("routed");
              }

              @Override
              public void resumed(String base) {
                counted.add("resumed");
              }
            });
  }

  /** Two bases that pause after so many tokens, unless they are to go on from somewhere. */
  private void startPausing(ClusterTimes times, int tokens) {
    start(times);
    for (int i = 0; i < 2; i++) {
      cluster.base(engine().scripts(pausing(tokens)));
    }
  }

  private Function<GenerateRequest, Script> pausing(int tokens) {
    AtomicInteger calls = new AtomicInteger();
    return request ->
        request.id().contains("~") || calls.getAndIncrement() > 0
            ? WHOLE
            : WHOLE.pausingAfter(tokens, never);
  }

  @AfterEach
  void close() {
    never.complete(true);
    cluster.close();
  }

  private static void assertWhole(AssertSubscriber<TokenEvent> client) {
    client.awaitCompletion(Cluster.PATIENCE);
    assertWhole(client.getItems());
  }

  private static void assertWhole(List<TokenEvent> events) {
    for (int i = 0; i < OUTPUT.length; i++) {
      assertThat(events.get(i)).isEqualTo(new TokenEvent.Token(i, OUTPUT[i], null));
    }
    assertThat(events.subList(OUTPUT.length, events.size()))
        .containsExactly(new TokenEvent.Finished(FinishReason.STOP, 3, 0, OUTPUT.length));
  }

  @ParameterizedTest
  @ValueSource(strings = {"", "pirate"})
  void aSilentBaseIsReplaced(String name) {
    Optional<String> adapter = Optional.of(name).filter(n -> !n.isEmpty());
    startPausing(Cluster.impatient(), 5);
    GenerateRequest request = cluster.request(1000, adapter);
    AssertSubscriber<TokenEvent> client = cluster.subscribe(request, 1000);
    client.awaitItems(5);
    Cluster.Base lost = cluster.whoHas(1);
    cluster.kill(lost);
    assertWhole(client);

    GenerateRequest resumed = cluster.other(lost).engine().requests.element();
    assertThat(resumed.generated()).containsExactly(100, 101, 102, 103, 104);
    assertThat(resumed.id()).isNotEqualTo(request.id()).startsWith(request.id());
    assertThat(resumed.started().orElseThrow().adapter())
        .isEqualTo(
            adapter.map(
                a ->
                    engine().adapters().stream()
                        .filter(id -> id.name().equals(a))
                        .findFirst()
                        .orElseThrow()));
    assertThat(counted).containsExactly("routed", "routed", "resumed");
  }

  @Test
  void aBaseThatEndsHandsItsStreamsOn() {
    startPausing(ClusterTimes.DEFAULTS, 5);
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(1000), 1000);
    client.awaitItems(5);
    Cluster.Base ended = cluster.whoHas(1);
    cluster.undeploy(ended);
    assertWhole(client);
    assertThat(ended.engine().active).hasValue(0);
  }

  @Test
  void aRequestWaitsForALostBaseToReturn() {
    start(Cluster.impatient());
    Cluster.Base only = cluster.base(engine().scripts(pausing(70)));
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(1000), 30);
    client.awaitItems(30);
    cluster.kill(only);
    cluster.until("it is forgotten", () -> cluster.gateway.load().kvBlocksTotal() == 0);
    cluster.base(engine().plays(WHOLE));
    client.request(1000);
    assertWhole(client);
  }

  @Test
  void aBaseThatDoesNotAnswerIsReplaced() {
    startPausing(Cluster.impatient(), 5);
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(1000), 1000);
    client.awaitItems(5);
    cluster.faults.lose(StreamMessage.Pong.class::isInstance);
    assertWhole(client);
  }

  @Test
  void nothingIsDemandedOfANewStartBeforeTheFirstToken() {
    startPausing(Cluster.impatient(), 0);
    AssertSubscriber<TokenEvent> client =
        cluster.subscribe(cluster.request(1000, Optional.of("pirate")), 1000);
    cluster.until(
        "one has begun",
        () -> cluster.bases().stream().anyMatch(b -> b.engine().paused.tryAcquire()));
    Cluster.Base lost = cluster.whoHas(1);
    cluster.kill(lost);
    assertWhole(client);
    assertThat(cluster.other(lost).engine().requests.element().started()).isEmpty();
  }

  @Test
  void thePromptIsReportedOnce() {
    startPausing(Cluster.impatient(), 5); // The prompt and four tokens.
    GenerateRequest request =
        new GenerateRequest(
            "r", new int[] {1, 2, 3}, Optional.empty(), SamplingParams.greedy(1000), true);
    AssertSubscriber<TokenEvent> client = cluster.subscribe(request, 1000);
    client.awaitItems(5);
    Cluster.Base lost = cluster.whoHas(1);
    cluster.kill(lost);
    client.awaitCompletion(Cluster.PATIENCE);
    assertThat(client.getItems().getFirst()).isInstanceOf(TokenEvent.Prompt.class);
    assertWhole(client.getItems().subList(1, client.getItems().size()));
    assertThat(cluster.other(lost).engine().requests.element().promptLogprobs()).isFalse();
  }

  /** No message holds more events than the window, so there are at least four. */
  @Test
  void aMessageThatIsLostIsMadeGood() {
    start(Cluster.times(60_000, 60_000, 60_000, 60_000));
    cluster.base(engine().plays(WHOLE));
    cluster.base(engine().plays(WHOLE));
    for (int n = 1; n <= 4; n++) {
      AtomicInteger left = new AtomicInteger(n);
      cluster.faults.lose(
          message -> message instanceof StreamMessage.Parts && left.decrementAndGet() == 0);
      assertWhole(cluster.collect(cluster.request(1000)).join());
      assertThat(left.get()).as("messages before the %dth", n).isNotPositive();
    }
    assertThat(counted).contains("resumed");
  }

  @Test
  void ifOnlyTheEndIsLostNothingIsComputedAgain() {
    start(Cluster.times(60_000, 60_000, 60_000, 60_000));
    CompletableFuture<Boolean> goOn = new CompletableFuture<>();
    cluster.base(engine().plays(WHOLE.pausingAfter(5, goOn)));
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(5), 1000);
    client.awaitItems(5);
    cluster.faults.lose(StreamMessage.Parts.class::isInstance);
    goOn.complete(true);
    client.awaitCompletion(Cluster.PATIENCE);
    assertThat(client.getItems().subList(5, 6))
        .containsExactly(new TokenEvent.Finished(FinishReason.LENGTH, 3, 0, 5));
    assertThat(counted).containsExactly("routed");
  }

  @Test
  void theContextOfTheFirstBaseEndsItEverywhere() {
    start(Cluster.impatient());
    Cluster.Base lost = cluster.base(engine().contextLength(40).scripts(pausing(5)));
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(1000), 1000);
    client.awaitItems(5);
    cluster.base(engine().contextLength(30).plays(WHOLE));
    Cluster.Base larger = cluster.base(engine().contextLength(50).plays(WHOLE));
    cluster.kill(lost);
    client.awaitCompletion(Cluster.PATIENCE);
    assertThat(tokens(client.getItems())).hasSize(37);
    assertThat(larger.engine().requests).hasSize(1);
  }

  @Test
  void doubledMessagesChangeNothing() {
    start(ClusterTimes.DEFAULTS);
    cluster.base(engine().plays(WHOLE));
    cluster.faults.send2(
        message -> message instanceof StreamMessage || message instanceof BaseCall);
    for (int i = 0; i < 5; i++) {
      assertWhole(cluster.collect(cluster.request(1000)).join());
    }
    assertThat(counted).containsOnly("routed").hasSize(5);
  }

  @Test
  void whateverIsLostDoubledOrSwappedTheStreamIsWhole() {
    start(Cluster.times(60_000, 1_000, 60_000, 60_000));
    for (int i = 0; i < 3; i++) {
      cluster.base(engine().plays(WHOLE));
    }
    Predicate<Object> traffic =
        message -> message instanceof StreamMessage || message instanceof BaseCall;
    cluster.faults.lose(traffic.and(randomly(1)));
    cluster.faults.send2(traffic.and(randomly(2)));
    cluster.faults.swap(traffic.and(randomly(3)));
    List<CompletableFuture<List<TokenEvent>>> answers = new ArrayList<>();
    for (int i = 0; i < 30; i++) {
      answers.add(cluster.collect(cluster.request(1000)));
    }
    answers.forEach(answer -> assertWhole(answer.join()));
    cluster.faults.lose(message -> false);
    cluster.faults.swap(message -> false);
    assertThat(counted).contains("resumed");
  }

  private static Predicate<Object> randomly(int seed) {
    Random random = new Random(seed);
    return message -> random.nextInt(10) == 0;
  }

  @Test
  void givesUpAfterAWhileAndSaysWhatHappened() {
    start(Cluster.times(400, 60_000, 60_000, 300));
    Cluster.Base only = cluster.base(engine().scripts(pausing(5)));
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(1000), 1000);
    client.awaitItems(5);
    cluster.kill(only);
    assertFails(client, ErrorCode.UNAVAILABLE, "after 5 tokens", "base-0", "silent", "300 ms");
  }

  private static void assertFails(
      AssertSubscriber<TokenEvent> client, ErrorCode code, String... reasons) {
    client.awaitFailure(
        e -> {
          assertThat(e).hasMessageContainingAll(reasons);
          assertThat(((InfiniLoraException) e).code()).isEqualTo(code);
        },
        Cluster.PATIENCE);
  }

  @Test
  void anAdapterGenerationThatIsGoneFailsTheRequest() {
    start(Cluster.impatient());
    InfiniLoraException gone =
        new InfiniLoraException(ErrorCode.CONFLICT, "pirate@1 has been replaced");
    for (int i = 0; i < 2; i++) {
      Function<GenerateRequest, Script> first = pausing(5);
      cluster.base(
          engine().scripts(r -> r.started().isPresent() ? Script.refuses(gone) : first.apply(r)));
    }
    AssertSubscriber<TokenEvent> client =
        cluster.subscribe(cluster.request(1000, Optional.of("pirate")), 1000);
    client.awaitItems(5);
    cluster.replaced.add("pirate");
    cluster.undeploy(cluster.whoHas(1));
    assertFails(client, ErrorCode.CONFLICT, "after 5 tokens", "pirate@1 has been replaced");
  }

  @Test
  void aBaseMayHearOfAnAdapterLaterThanAStreamNeedsIt() {
    start(ClusterTimes.DEFAULTS);
    InfiniLoraException unknown =
        new InfiniLoraException(ErrorCode.CONFLICT, "pirate@0 has been unloaded");
    for (int i = 0; i < 2; i++) {
      Function<GenerateRequest, Script> first = pausing(5);
      AtomicInteger refusals = new AtomicInteger(2);
      cluster.base(
          engine()
              .scripts(
                  r ->
                      r.generated().length > 0 && refusals.getAndDecrement() > 0
                          ? Script.refuses(unknown)
                          : first.apply(r)));
    }
    AssertSubscriber<TokenEvent> client =
        cluster.subscribe(cluster.request(1000, Optional.of("pirate")), 1000);
    client.awaitItems(5);
    cluster.undeploy(cluster.whoHas(1));
    client.awaitCompletion(Cluster.PATIENCE);
    assertWhole(client.getItems());
  }

  @Test
  void anInterruptedRequestIsNotTurnedAwayByAFullQueue() {
    start(ClusterTimes.DEFAULTS);
    for (int i = 0; i < 2; i++) {
      Function<GenerateRequest, Script> first = pausing(5);
      AtomicInteger refusals = new AtomicInteger(2);
      cluster.base(
          engine()
              .scripts(
                  r ->
                      r.generated().length > 0 && refusals.getAndDecrement() > 0
                          ? Script.refuses(new OverloadedException("full", Duration.ofSeconds(9)))
                          : first.apply(r)));
    }
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(1000), 1000);
    client.awaitItems(5);
    Cluster.Base ended = cluster.whoHas(1);
    FakeEngine other = cluster.other(ended).engine();
    cluster.undeploy(ended);
    assertWhole(client);
    assertThat(other.requests).hasSize(3);
  }
}
