package io.infinilora.gateway;

import static io.infinilora.gateway.Cluster.engine;
import static io.infinilora.gateway.Cluster.tokens;
import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.GenerateRequest;
import io.infinilora.core.TokenEvent;
import io.infinilora.fake.FakeEngine;
import io.infinilora.fake.Script;
import io.infinilora.wire.BaseCall;
import io.infinilora.wire.BaseNotice;
import io.smallrye.mutiny.helpers.test.AssertSubscriber;
import io.vertx.core.Future;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Credits, cancellation, and what a base does about a gateway that is gone. */
class StreamTest {
  private final CompletableFuture<Boolean> goOn = new CompletableFuture<>();
  private Cluster cluster;

  private FakeEngine start(ClusterTimes times, Script script) {
    cluster = new Cluster(times);
    FakeEngine engine = engine().plays(script);
    cluster.base(engine);
    return engine;
  }

  @AfterEach
  void close() {
    goOn.complete(true);
    cluster.close();
  }

  @Test
  void aBaseIsNoFurtherAheadOfTheClientThanTheWindow() {
    FakeEngine engine = start(ClusterTimes.DEFAULTS, Script.forever(5));
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(1000), 0);
    int taken = 0;
    for (int more : new int[] {1, 10, 40, 100, 3}) {
      client.request(more).awaitItems(taken + more);
      taken += more;
      // The message with what the client has just taken left behind all that was emitted before.
      assertThat(engine.emitted.get())
          .isBetween((long) taken, (long) taken + RoutedGeneration.WINDOW);
    }
    client.request(Long.MAX_VALUE).awaitCompletion(Cluster.PATIENCE);
    assertThat(tokens(client.getItems())).hasSize(1000).containsOnly(5);
  }

  @Test
  void aClientThatLeavesEndsItsStreamAtTheBase() {
    FakeEngine engine =
        start(
            Cluster.times(60_000, 600_000, 60_000, 60_000),
            Script.tokens(5, 6).pausingAfter(1, goOn));
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(2), 5);
    client.awaitItems(1);
    client.cancel();
    Cluster.acquire(engine.cancellations);
    assertThat(engine.active).hasValue(0);
  }

  @Test
  void aCancellationThatIsLostIsMadeGood() {
    FakeEngine engine = start(Cluster.times(60_000, 60_000, 60_000, 60_000), Script.tokens(5));
    GenerateRequest left = cluster.request(2);
    engine.scripts(
        request ->
            Script.tokens(5, 6)
                .pausingAfter(
                    1, request.id().equals(left.id()) ? new CompletableFuture<>() : goOn));
    AssertSubscriber<TokenEvent> leaving = cluster.subscribe(left, 5);
    CompletableFuture<List<TokenEvent>> staying = cluster.collect(cluster.request(2));
    leaving.awaitItems(1);
    Cluster.acquire(engine.paused);
    Cluster.acquire(engine.paused);
    cluster.faults.lose(BaseCall.Cancel.class::isInstance);
    leaving.cancel();
    Cluster.acquire(engine.cancellations);
    assertThat(engine.active).hasValue(1);
    goOn.complete(true);
    assertThat(tokens(staying.join())).containsExactly(5, 6);
  }

  @Test
  void creditsThatAreLostAreMadeGood() {
    start(Cluster.times(60_000, 60_000, 60_000, 60_000), Script.forever(5));
    cluster.faults.lose(BaseCall.Credit.class::isInstance);
    assertThat(tokens(cluster.collect(cluster.request(300)).join())).hasSize(300);
  }

  @Test
  void theStreamsOfASilentGatewayAreEnded() {
    FakeEngine engine =
        start(
            Cluster.times(60_000, 300, 60_000, 60_000), Script.tokens(5, 6).pausingAfter(1, goOn));
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(2), 5);
    client.awaitItems(1);
    cluster.faults.lose(BaseCall.class::isInstance);
    Cluster.acquire(engine.cancellations);
    assertThat(engine.active).hasValue(0);
  }

  @Test
  void aGatewayThatEndsCancelsItsStreams() {
    FakeEngine engine = start(ClusterTimes.DEFAULTS, Script.tokens(5, 6).pausingAfter(1, goOn));
    AssertSubscriber<TokenEvent> client = cluster.subscribe(cluster.request(2), 5);
    client.awaitItems(1);
    cluster.undeployGateway();
    Cluster.acquire(engine.cancellations);
    client.awaitFailure(e -> assertThat(e).hasMessageContaining("shutting down"));
  }

  @Test
  void aDrainingBaseEndsItsStreamsAndGetsNothingNew() {
    FakeEngine first = start(ClusterTimes.DEFAULTS, Script.tokens(5, 6).pausingAfter(1, goOn));
    Cluster.Base draining = cluster.bases().getFirst();
    CompletableFuture<List<TokenEvent>> running = cluster.collect(cluster.request(2));
    Cluster.acquire(first.paused);
    FakeEngine second = engine().plays(Script.tokens(7));
    cluster.base(second);
    Future<Void> drained = draining.service().drain();
    cluster.awaitNotice(draining, BaseNotice.State.DRAINING);
    for (int i = 0; i < 5; i++) {
      assertThat(tokens(cluster.collect(cluster.request(2)).join())).containsExactly(7);
    }
    assertThat(first.requests).hasSize(1);
    assertThat(drained.isComplete()).isFalse();
    goOn.complete(true);
    assertThat(tokens(running.join())).containsExactly(5, 6);
    Cluster.await(drained);
  }

  @Test
  void aBaseRefusesWhatComesWhileItDrains() {
    FakeEngine first = start(ClusterTimes.DEFAULTS, Script.tokens(5));
    // The gateway does not hear of it.
    cluster.faults.lose(BaseNotice.class::isInstance);
    Cluster.await(cluster.bases().getFirst().service().drain());
    GenerateRequest request = cluster.request(2);
    CompletableFuture<List<TokenEvent>> answer = cluster.collect(request);
    cluster.faults.lose(message -> false);
    cluster.base(engine().plays(Script.tokens(7)));
    assertThat(tokens(answer.join())).containsExactly(7);
    assertThat(first.requests).isEmpty();
  }
}
