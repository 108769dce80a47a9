package io.infinilora.node;

import io.infinilora.core.AdapterStatus;
import io.infinilora.gateway.ClusterTimes;
import io.infinilora.gateway.RoutedEngine;
import io.infinilora.metrics.GatewayMetrics;
import io.infinilora.weights.Checkpoint;
import io.infinilora.wire.AdapterFollower;
import io.infinilora.wire.BusAdapterAdmin;
import io.infinilora.wire.CaughtUpAdmin;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import java.util.List;
import java.util.Optional;

/**
 * The API of a cluster: computes nothing, and reads of the model what requests need to be read. All
 * that runs here are requests of clients, whom the API waits for when the process ends.
 */
final class GatewayNode implements ServingNode {
  private final Vertx vertx;
  private final Checkpoint checkpoint;
  private final AdapterFollower follower;
  private final RoutedEngine engine;
  private final NodeAdapters adapters;

  /** Opens the model; blocks. */
  GatewayNode(Vertx vertx, NodeSources sources, GatewayMetrics metrics) {
    this.vertx = vertx;
    checkpoint = sources.open();
    follower = new AdapterFollower(vertx);
    engine =
        new RoutedEngine(
            checkpoint.spec(),
            ModelFingerprint.of(checkpoint),
            follower::ids,
            follower::find,
            metrics,
            ClusterTimes.DEFAULTS);
    adapters =
        new NodeAdapters(
            engine, new CaughtUpAdmin(new BusAdapterAdmin(vertx.eventBus()), follower));
  }

  Future<ServingNode> deploy() {
    WireCodecs.registerAll(vertx.eventBus());
    return listen()
        .compose(v -> vertx.deployVerticle(engine))
        .<ServingNode>map(this)
        .onFailure(e -> checkpoint.close());
  }

  /** The follower belongs to one event loop. */
  private Future<Void> listen() {
    Promise<Void> listening = Promise.promise();
    vertx.getOrCreateContext().runOnContext(v -> follower.listen().onComplete(listening));
    return listening.future();
  }

  @Override
  public Optional<NodeApi> api() {
    return Optional.of(new NodeApi(engine, adapters, checkpoint.text()));
  }

  @Override
  public List<String> describe() {
    return List.of("model: " + checkpoint.describe() + ", computed elsewhere");
  }

  @Override
  public Future<List<AdapterStatus>> adapterPlaces() {
    return Future.fromCompletionStage(adapters.list().subscribeAsCompletionStage());
  }

  @Override
  public Future<Void> close() {
    return vertx
        .close()
        .eventually(
            () -> {
              checkpoint.close();
              return Future.succeededFuture();
            });
  }
}
