package io.infinilora.node;

import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.metrics.PrometheusMetrics;
import io.infinilora.model.LoadListener;
import io.infinilora.weights.hub.HubListener;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.WorkerExecutor;
import java.util.concurrent.TimeUnit;

/** Starts what the settings say that a process is. */
public final class Nodes {
  private Nodes() {}

  /**
   * Downloads what is on the hub, loads what the role needs, and deploys its verticles.
   *
   * @param vertx clustered, unless the role is {@code all}
   * @param downloads told how downloads go
   * @param loading told how a base model is loaded
   * @return fails with {@link InfiniLoraException} if the process cannot do its work
   */
  public static Future<ServingNode> start(
      Vertx vertx,
      InfiniLoraConfig config,
      PrometheusMetrics metrics,
      HubListener downloads,
      LoadListener loading) {
    return switch (config.role()) {
      case ALL -> Node.start(vertx, config, metrics, downloads, loading).map(node -> node);
      case BASE ->
          Node.start(vertx, config, metrics, downloads, loading)
              .compose(node -> node.serveGateways().map(node));
      case LORA ->
          resolve(vertx, config, downloads)
              .compose(
                  sources ->
                      vertx.executeBlocking(
                          () -> new LoraNode(vertx, config, sources, metrics, downloads)))
              .compose(LoraNode::deploy);
      case GATEWAY ->
          resolve(vertx, config, downloads)
              .compose(
                  sources -> vertx.executeBlocking(() -> new GatewayNode(vertx, sources, metrics)))
              .compose(GatewayNode::deploy);
    };
  }

  /** Finds the model's files, on a worker of its own, since a download may take long. */
  static Future<NodeSources> resolve(Vertx vertx, InfiniLoraConfig config, HubListener downloads) {
    WorkerExecutor downloader =
        vertx.createSharedWorkerExecutor("hub-downloads", 1, 1, TimeUnit.DAYS);
    return downloader
        .executeBlocking(() -> NodeSources.resolve(config, downloads))
        .eventually(downloader::close);
  }
}
