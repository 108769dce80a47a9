package io.infinilora.gateway;

import io.infinilora.core.AdapterId;
import io.infinilora.core.Engine;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TokenEvent;
import io.infinilora.metrics.GatewayMetrics;
import io.smallrye.mutiny.Multi;
import io.vertx.core.Context;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.VerticleBase;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Flow;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * An engine whose generations are computed by the bases of other processes. Each is sent to the
 * base that {@link RoutingPolicy} chooses; if that one is lost, another goes on from the last
 * token, and the subscriber sees nothing of it. Serves requests when deployed.
 */
public final class RoutedEngine extends VerticleBase implements Engine {
  private final ModelSpec model;
  private final BaseDirectory directory;
  private final Supplier<List<AdapterId>> adapters;
  private final Function<String, Optional<AdapterId>> find;
  private final GatewayMetrics metrics;
  private final ClusterTimes times;

  private volatile Context loop;

  // Owned by the event loop.
  private Router router;
  private boolean draining;
  private final Promise<Void> drained = Promise.promise();

  /**
   * An engine without bases; those that run are heard of within a moment.
   *
   * @param fingerprint that of the bases to be used, see {@link BaseService}
   * @param adapters those that requests may name, as the LoRA side lists them; called on any
   *     thread, must not block
   * @param find the one of a name among them, likewise
   */
  public RoutedEngine(
      ModelSpec model,
      String fingerprint,
      Supplier<List<AdapterId>> adapters,
      Function<String, Optional<AdapterId>> find,
      GatewayMetrics metrics,
      ClusterTimes times) {
    this.model = Objects.requireNonNull(model);
    this.directory = new BaseDirectory(fingerprint, model.maxPositions());
    this.adapters = Objects.requireNonNull(adapters);
    this.find = Objects.requireNonNull(find);
    this.metrics = Objects.requireNonNull(metrics);
    this.times = Objects.requireNonNull(times);
  }

  @Override
  public Future<?> start() {
    router = new Router(vertx, directory, find, metrics, times);
    return router.start().onSuccess(v -> loop = context);
  }

  /**
   * {@inheritDoc}
   *
   * <p>Items arrive on this verticle's event loop. A request for which there is no base, or none
   * that has heard of its adapter, waits a while for one; then it fails. If every base is
   * overloaded, it fails with the shortest time to wait that any of them gave. One that is
   * interrupted goes on at another base; it fails with {@code UNAVAILABLE} if none makes progress
   * with it for {@link ClusterTimes#resume}, and with {@code CONFLICT} if its adapter's generation
   * is gone.
   */
  @Override
  public Multi<TokenEvent> generate(GenerateRequest request) {
    return Multi.createFrom()
        .deferred(
            () ->
                loop == null
                    ? Multi.createFrom().failure(unavailable("the gateway is not ready yet"))
                    : Multi.createFrom()
                        .publisher(
                            (Flow.Publisher<TokenEvent>) subscriber -> begin(request, subscriber)));
  }

  private static InfiniLoraException unavailable(String message) {
    return new InfiniLoraException(ErrorCode.UNAVAILABLE, message);
  }

  private void begin(GenerateRequest request, Flow.Subscriber<? super TokenEvent> subscriber) {
    Context target = loop;
    RoutedGeneration generation =
        new RoutedGeneration(
            request, subscriber, router, task -> target.runOnContext(v -> task.run()));
    target.runOnContext(
        v -> {
          subscriber.onSubscribe(generation);
          router.add(generation);
          if (draining) {
            generation.fail(unavailable("the server is shutting down"));
          } else {
            generation.dispatch();
          }
        });
  }

  @Override
  public ModelSpec model() {
    return model;
  }

  /**
   * {@inheritDoc}
   *
   * <p>That of the base with the longest; requests which need it are sent there.
   */
  @Override
  public int contextLength() {
    return directory.contextLength();
  }

  @Override
  public List<AdapterId> adapters() {
    return adapters.get();
  }

  @Override
  public Optional<AdapterId> adapter(String name) {
    return find.apply(name);
  }

  /** The sum over the bases. */
  @Override
  public EngineLoad load() {
    return directory.load();
  }

  /**
   * Refuses new requests and completes when those in flight have ended. Any thread, once deployed.
   *
   * @return completes on the event loop
   */
  public Future<Void> drain() {
    loop.runOnContext(
        v -> {
          draining = true;
          router.whenIdle(drained::tryComplete);
        });
    return drained.future();
  }

  /** Requests still in flight fail, and the bases are told to stop. */
  @Override
  public Future<?> stop() {
    draining = true;
    router.stop();
    router.failAll(unavailable("the server is shutting down"));
    return Future.succeededFuture();
  }
}
