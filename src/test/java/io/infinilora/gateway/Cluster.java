package io.infinilora.gateway;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.AdapterId;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.fake.FakeEngine;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.GatewayMetrics;
import io.infinilora.wire.BaseAddresses;
import io.infinilora.wire.BaseNotice;
import io.infinilora.wire.WireCodecs;
import io.smallrye.mutiny.helpers.test.AssertSubscriber;
import io.vertx.core.Context;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/**
 * A gateway and bases with fake engines on one event bus. Closing it fails if an event loop was
 * blocked, or if an engine still has a generation.
 */
final class Cluster implements AutoCloseable {
  static final Duration PATIENCE = Duration.ofMinutes(1);
  static final String FINGERPRINT = "f";

  private final EventLoopWatch watch = new EventLoopWatch();
  final Vertx vertx = watch.vertx();
  final BusFaults faults = new BusFaults(vertx);
  final ClusterTimes times;
  final RoutedEngine gateway;
  private final String gatewayDeployment;
  private final Queue<BaseNotice> notices = new ConcurrentLinkedQueue<>();
  private final Context probe = vertx.getOrCreateContext();
  private final List<Base> bases = new ArrayList<>();

  /** Names of adapters that have another generation by now. */
  final Set<String> replaced = ConcurrentHashMap.newKeySet();

  private final List<Base> dead = new ArrayList<>();
  private int requests;

  private static final AdapterId NEXT = new AdapterId("pirate", "1".repeat(64));

  /** A base that runs. */
  record Base(FakeEngine engine, BaseService service, String deployment) {}

  Cluster(ClusterTimes times) {
    this(times, GatewayMetrics.NONE);
  }

  Cluster(ClusterTimes times, GatewayMetrics metrics) {
    this.times = times;
    FakeEngine lister = new FakeEngine("pirate", "haiku");
    gateway =
        new RoutedEngine(
            lister.model(),
            FINGERPRINT,
            lister::adapters,
            name -> lister.adapter(name).map(id -> replaced.contains(name) ? NEXT : id),
            metrics,
            times);
    WireCodecs.registerAll(vertx.eventBus());
    gatewayDeployment = await(vertx.deployVerticle(gateway));
    await(
        vertx
            .eventBus()
            .<BaseNotice>consumer(BaseAddresses.NOTICES, m -> notices.add(m.body()))
            .completion());
  }

  /** Notices a loss soon, but bears with a busy machine. */
  static ClusterTimes impatient() {
    return times(400, 60_000, 30_000, 30_000);
  }

  static ClusterTimes times(int baseSilence, int gatewaySilence, int join, int resume) {
    return new ClusterTimes(
        Duration.ofMillis(20),
        Duration.ofMillis(40),
        Duration.ofMillis(baseSilence),
        Duration.ofMillis(gatewaySilence),
        Duration.ofMillis(join),
        Duration.ofMillis(resume),
        Duration.ofMillis(10));
  }

  /** Adds a base; the gateway has heard of it when this returns. */
  Base base(FakeEngine engine) {
    return base(engine, FINGERPRINT);
  }

  Base base(FakeEngine engine, String fingerprint) {
    BaseService service =
        new BaseService("base-" + bases.size(), engine, 8, "fake", fingerprint, times);
    Base base = new Base(engine, service, await(vertx.deployVerticle(service)));
    bases.add(base);
    return base;
  }

  static FakeEngine engine() {
    return new FakeEngine("pirate", "haiku").contextLength(10_000);
  }

  /** The base that was sent this many requests, which has to be one only. */
  Base whoHas(int count) {
    List<Base> found = bases.stream().filter(b -> b.engine.requests.size() == count).toList();
    assertThat(found).as("bases with %d requests", count).hasSize(1);
    return found.getFirst();
  }

  /** The same, when so many requests have reached the bases. */
  Base whoHas(int count, int all) {
    until(
        "%d requests have come".formatted(all),
        () -> bases.stream().mapToInt(base -> base.engine.requests.size()).sum() == all);
    return whoHas(count);
  }

  List<Base> bases() {
    return List.copyOf(bases);
  }

  void undeployGateway() {
    await(vertx.undeploy(gatewayDeployment));
  }

  Base other(Base base) {
    return bases.stream().filter(b -> b != base).findFirst().orElseThrow();
  }

  /** It is gone without a word, but does not know. */
  void kill(Base base) {
    faults.kill(base.service.incarnation());
    dead.add(base);
  }

  /** Waits until the gateway has heard, too, that a base is in a state. */
  void awaitNotice(Base base, BaseNotice.State state) {
    until(
        "it has said so twice",
        () ->
            notices.stream()
                    .filter(n -> n.incarnation().equals(base.service.incarnation()))
                    .filter(n -> n.state() == state)
                    .count()
                > 1);
  }

  void undeploy(Base base) {
    bases.remove(base);
    await(vertx.undeploy(base.deployment));
  }

  GenerateRequest request(int tokens) {
    return request(tokens, Optional.empty());
  }

  GenerateRequest request(int tokens, Optional<String> adapter) {
    return new GenerateRequest(
        "r" + requests++, new int[] {1, 2, 3}, adapter, SamplingParams.greedy(tokens));
  }

  AssertSubscriber<TokenEvent> subscribe(GenerateRequest request, long demand) {
    return gateway.generate(request).subscribe().withSubscriber(AssertSubscriber.create(demand));
  }

  CompletableFuture<List<TokenEvent>> collect(GenerateRequest request) {
    return gateway
        .generate(request)
        .collect()
        .asList()
        .subscribeAsCompletionStage()
        .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS);
  }

  static int[] tokens(List<TokenEvent> events) {
    return events.stream()
        .filter(TokenEvent.Token.class::isInstance)
        .mapToInt(event -> ((TokenEvent.Token) event).token())
        .toArray();
  }

  /** Takes turns of an event loop until this holds. */
  void until(String what, BooleanSupplier condition) {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (!condition.getAsBoolean()) {
      assertThat(System.nanoTime()).as("time until %s", what).isLessThan(deadline);
      Promise<Void> turn = Promise.promise();
      probe.runOnContext(v -> turn.complete());
      await(turn.future());
    }
  }

  static void acquire(Semaphore permits) {
    try {
      assertThat(permits.tryAcquire(PATIENCE.toSeconds(), TimeUnit.SECONDS)).isTrue();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  static <T> T await(Future<T> future) {
    return future
        .toCompletionStage()
        .toCompletableFuture()
        .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS)
        .join();
  }

  @Override
  public void close() {
    bases.removeAll(dead);
    until(
        "nothing runs at a base any more",
        () -> bases.stream().allMatch(base -> base.engine.active.get() == 0));
    await(vertx.close());
    watch.assertSilent();
  }
}
