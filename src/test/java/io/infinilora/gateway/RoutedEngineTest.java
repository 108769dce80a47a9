package io.infinilora.gateway;

import static io.infinilora.gateway.Cluster.engine;
import static io.infinilora.gateway.Cluster.tokens;
import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.OverloadedException;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.fake.FakeEngine;
import io.infinilora.fake.Script;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Where requests are sent, and what they get if nothing fails. */
class RoutedEngineTest {
  private final CompletableFuture<Boolean> goOn = new CompletableFuture<>();
  private Cluster cluster = new Cluster(ClusterTimes.DEFAULTS);

  @AfterEach
  void close() {
    goOn.complete(true);
    cluster.close();
  }

  private void restart(ClusterTimes times) {
    cluster.close();
    cluster = new Cluster(times);
  }

  private static void assertFails(CompletableFuture<?> answer, ErrorCode code, String... reasons) {
    assertThat(answer)
        .failsWithin(Cluster.PATIENCE)
        .withThrowableThat()
        .havingCause()
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(code))
        .satisfies(e -> assertThat(e.getMessage()).contains(reasons));
  }

  @Test
  void everyEventOfTheBaseArrives() {
    FakeEngine engine = engine().plays(Script.tokens(5, 6, 7));
    cluster.base(engine);
    SamplingParams sampling =
        new SamplingParams(0, 1, 0, 0, 1, 0, 0, 0, Map.of(), List.of(), 9, true, 2);
    GenerateRequest request =
        new GenerateRequest("r", new int[] {1, 2}, Optional.of("haiku"), sampling, true);
    assertThat(cluster.collect(request).join())
        .hasSize(5)
        .usingRecursiveComparison()
        .isEqualTo(engine.generate(request).collect().asList().await().indefinitely());
    GenerateRequest reporting =
        new GenerateRequest(
            "s",
            new int[] {1, 2},
            Optional.of("haiku"),
            sampling,
            false,
            true,
            new int[] {5},
            Optional.empty());
    List<TokenEvent> reported = cluster.collect(reporting).join();
    assertThat(reported.getFirst())
        .isEqualTo(new TokenEvent.Started(Optional.of(engine.adapters().get(1)), 0));
    assertThat(tokens(reported)).containsExactly(6, 7);
  }

  @Test
  void manyTokensArriveInOrder() {
    int[] many = new int[1000];
    for (int i = 0; i < many.length; i++) {
      many[i] = i % FakeEngine.VOCAB;
    }
    cluster.base(engine().plays(Script.tokens(many)));
    List<TokenEvent> events = cluster.collect(cluster.request(5000)).join();
    assertThat(tokens(events)).containsExactly(many);
    assertThat(((TokenEvent.Finished) events.getLast()).outputTokens()).isEqualTo(1000);
  }

  @Test
  void requestsAreSpreadBeforeTheNextNoticeComes() {
    for (int i = 0; i < 3; i++) {
      cluster.base(engine().plays(Script.tokens(5).pausingAfter(0, goOn)));
    }
    List<CompletableFuture<List<TokenEvent>>> answers =
        IntStream.range(0, 9).mapToObj(i -> cluster.collect(cluster.request(1))).toList();
    cluster.bases().forEach(base -> acquire(base, 3));
    goOn.complete(true);
    answers.forEach(CompletableFuture::join);
  }

  private static void acquire(Cluster.Base base, int permits) {
    for (int i = 0; i < permits; i++) {
      Cluster.acquire(base.engine().paused);
    }
    assertThat(base.engine().requests).hasSize(permits);
  }

  @Test
  void anAdapterStaysWhereItIsInUse() {
    for (int i = 0; i < 2; i++) {
      cluster.base(engine().plays(Script.tokens(5).pausingAfter(0, goOn)));
    }
    cluster.collect(cluster.request(1, Optional.of("pirate")));
    cluster.collect(cluster.request(1));
    cluster.collect(cluster.request(1, Optional.of("pirate")));
    cluster.collect(cluster.request(1, Optional.of("pirate")));
    Cluster.Base pirates = cluster.whoHas(3, 4);
    assertThat(cluster.other(pirates).engine().requests)
        .singleElement()
        .satisfies(request -> assertThat(request.adapter()).isEmpty());
  }

  @Test
  void loadAndContextAreThoseOfTheBases() {
    assertThat(cluster.gateway.contextLength()).isEqualTo(256);
    Cluster.Base base =
        cluster.base(engine().contextLength(100).plays(Script.tokens(5).pausingAfter(0, goOn)));
    cluster.base(engine().contextLength(200).plays(Script.tokens(6)));
    cluster.until("both are known", () -> cluster.gateway.load().kvBlocksTotal() == 2);
    assertThat(cluster.gateway.contextLength()).isEqualTo(200);
    assertThat(cluster.gateway.adapters())
        .extracting(AdapterId::name)
        .containsExactly("pirate", "haiku");
    // Only the other one has room for it.
    for (int i = 0; i < 4; i++) {
      assertThat(tokens(cluster.collect(cluster.request(150)).join())).containsExactly(6);
    }
    cluster.collect(cluster.request(10));
    cluster.collect(cluster.request(10));
    Cluster.acquire(base.engine().paused);
    cluster.until("a notice tells", () -> cluster.gateway.load().running() > 0);
  }

  @Test
  void aRequestWaitsForABaseAndFailsIfNoneJoins() {
    CompletableFuture<List<TokenEvent>> waiting = cluster.collect(cluster.request(1));
    cluster.base(engine().plays(Script.tokens(5)));
    assertThat(tokens(waiting.join())).containsExactly(5);

    restart(Cluster.times(60_000, 60_000, 50, 60_000));
    assertFails(
        cluster.collect(cluster.request(1)), ErrorCode.UNAVAILABLE, "no base model", "50 ms");
  }

  @Test
  void aBaseWithAnotherModelIsNotUsed() {
    restart(Cluster.times(60_000, 60_000, 50, 60_000));
    Cluster.Base stranger = cluster.base(engine(), "another");
    assertFails(cluster.collect(cluster.request(1)), ErrorCode.UNAVAILABLE, "no base model");
    assertThat(stranger.engine().requests).isEmpty();
    assertThat(cluster.gateway.load().kvBlocksTotal()).isZero();
  }

  @Test
  void whoIsFullIsPassedOverAndTheSoonestIsToldIfAllAre() {
    for (int seconds : new int[] {7, 3, 5}) {
      cluster.base(
          engine()
              .plays(
                  Script.refuses(
                      new OverloadedException(
                          "full for " + seconds, Duration.ofSeconds(seconds)))));
    }
    assertThat(cluster.collect(cluster.request(1)))
        .failsWithin(Cluster.PATIENCE)
        .withThrowableThat()
        .havingCause()
        .isInstanceOfSatisfying(
            OverloadedException.class,
            e -> assertThat(e.retryAfter()).isEqualTo(Duration.ofSeconds(3)));
    assertThat(cluster.bases()).allSatisfy(base -> assertThat(base.engine().requests).hasSize(1));

    cluster.base(engine().plays(Script.tokens(5)));
    for (int i = 0; i < 4; i++) {
      assertThat(tokens(cluster.collect(cluster.request(1)).join())).containsExactly(5);
    }
  }

  @Test
  void aBaseMayHearOfAnAdapterLaterThanTheGateway() {
    restart(Cluster.times(60_000, 60_000, 1_000, 60_000));
    InfiniLoraException unknown =
        new InfiniLoraException(ErrorCode.MODEL_NOT_FOUND, "no such adapter");
    AtomicInteger refusals = new AtomicInteger(3);
    FakeEngine engine =
        engine()
            .scripts(
                request ->
                    refusals.getAndDecrement() > 0 ? Script.refuses(unknown) : Script.tokens(5));
    cluster.base(engine);
    assertThat(tokens(cluster.collect(cluster.request(1, Optional.of("pirate"))).join()))
        .containsExactly(5);

    engine.plays(Script.refuses(unknown));
    assertFails(
        cluster.collect(cluster.request(1, Optional.of("pirate"))),
        ErrorCode.MODEL_NOT_FOUND,
        "no such adapter");
    int before = engine.requests.size();
    assertFails(
        cluster.collect(cluster.request(1, Optional.of("nobody"))),
        ErrorCode.MODEL_NOT_FOUND,
        "no such adapter");
    assertThat(engine.requests).hasSize(before + 1);
  }

  @Test
  void errorsOfTheRequestOrTheModelAreFinal() {
    FakeEngine first = engine();
    FakeEngine second = engine();
    cluster.base(first);
    cluster.base(second);
    InfiniLoraException tooLong =
        new InfiniLoraException(ErrorCode.CONTEXT_LENGTH_EXCEEDED, "too long");
    first.plays(Script.refuses(tooLong));
    second.plays(Script.refuses(tooLong));
    assertFails(cluster.collect(cluster.request(1)), tooLong.code(), "too long");
    first.plays(Script.tokens(5, 6, 7, 8).failingAfter(3));
    second.plays(Script.tokens(5, 6, 7, 8).failingAfter(3));
    assertFails(cluster.collect(cluster.request(9)), ErrorCode.INTERNAL, "fake failure");
    assertThat(first.requests.size() + second.requests.size()).isEqualTo(2);
  }

  @Test
  void aDrainedGatewayTakesNothingNew() {
    cluster.base(engine().plays(Script.tokens(5, 6).pausingAfter(1, goOn)));
    CompletableFuture<List<TokenEvent>> running = cluster.collect(cluster.request(2));
    var drained = cluster.gateway.drain();
    assertFails(cluster.collect(cluster.request(1)), ErrorCode.UNAVAILABLE, "shutting down");
    assertThat(drained.isComplete()).isFalse();
    goOn.complete(true);
    assertThat(tokens(running.join())).containsExactly(5, 6);
    Cluster.await(drained);
  }
}
