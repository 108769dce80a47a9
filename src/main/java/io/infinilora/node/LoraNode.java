package io.infinilora.node;

import io.infinilora.backend.Backend;
import io.infinilora.backend.cuda.CudaBackend;
import io.infinilora.config.ClusterConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.lora.FrameEndpoint;
import io.infinilora.lora.FrameServer;
import io.infinilora.metrics.LoraMetrics;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.hub.HubListener;
import io.infinilora.wire.BusAdapterAdmin;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.util.List;
import java.util.Optional;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The LoRA server of a cluster, or some shards of it. Reads the model's description only. */
final class LoraNode implements ServingNode {
  private static final Logger log = LoggerFactory.getLogger(LoraNode.class);

  /** How often it looks whether the shards of other processes are there. */
  private static final long SHARDS_MILLIS = 500;

  /**
   * Event loops that carry frames while drivers wait. Where a driver spins in their place, a row
   * takes three times as long to arrive.
   */
  static final int FRAME_LOOPS = 2;

  private final Vertx vertx;
  private final InfiniLoraConfig config;
  private final Checkpoint checkpoint;
  private final Backend backend;
  private final LoraServerPart part;
  private final StartAdapters adapters;
  private final AdapterAdmin admin;
  private FrameServer frames;
  private AdapterReport report = AdapterReport.NONE;

  /** Opens the model; blocks. */
  LoraNode(
      Vertx vertx,
      InfiniLoraConfig config,
      NodeSources sources,
      LoraMetrics metrics,
      HubListener downloads) {
    this.vertx = vertx;
    this.config = config;
    checkpoint = sources.open();
    int threads =
        config.engine().loraThreadsOrAll()
            * config
                .cluster()
                .shards()
                .map(List::size)
                .orElse(config.lora().shards().shards().size());
    backend = Node.open(config, checkpoint, threads + FRAME_LOOPS);
    try {
      if (backend instanceof CudaBackend cuda) {
        MemoryPlan.ofLoraServer(
            config, checkpoint.spec(), cuda.scratchSizes(), cuda.freeMemory().orElseThrow());
      }
    } catch (RuntimeException | Error e) {
      release();
      throw e;
    }
    part =
        new LoraServerPart(
            config, checkpoint.spec(), backend, AdapterSources.of(config, downloads), metrics);
    admin = new BusAdapterAdmin(vertx.eventBus());
    adapters =
        new StartAdapters(
            vertx, config, sources, new NodeAdapters(new NoBaseModel(checkpoint.spec()), admin));
  }

  Future<ServingNode> deploy() {
    WireCodecs.registerAll(vertx.eventBus());
    ClusterConfig cluster = config.cluster();
    return FrameServer.listen(
            vertx, new FrameEndpoint(cluster.host(), cluster.host(), cluster.framePort()))
        .compose(
            server -> {
              frames = server;
              return part.deploy(vertx, Optional.of(server));
            })
        .compose(v -> part.coordinates() ? register() : Future.succeededFuture())
        .<ServingNode>map(this)
        .onFailure(e -> release());
  }

  /** At once if all shards are here; else when they are, which this process need not wait for. */
  private Future<?> register() {
    if (part.isWhole()) {
      return adapters.register().onSuccess(done -> report = done);
    }
    whenAllShardsServe();
    return Future.succeededFuture();
  }

  private void whenAllShardsServe() {
    admin
        .list()
        .subscribe()
        .with(
            listed ->
                adapters
                    .register()
                    .onSuccess(
                        done ->
                            done.failures()
                                .forEach(e -> log.error("adapter refused: {}", e.getMessage())))
                    .onFailure(e -> log.error("adapters cannot be registered", e)),
            absent -> vertx.setTimer(SHARDS_MILLIS, t -> whenAllShardsServe()));
  }

  @Override
  public Optional<NodeApi> api() {
    return Optional.empty();
  }

  @Override
  public Optional<InfiniLoraException> fault() {
    return backend.fault();
  }

  @Override
  public List<String> describe() {
    return List.of(
        "model: " + checkpoint.describe(),
        "backend: " + backend.describe(),
        "LoRA server: shards %s of a grid of %s, %d MiB of device memory each, frames at %s:%d"
            .formatted(
                part.shards(),
                config.lora().shards(),
                config.lora().deviceMemory().bytes() >> 20,
                frames.address().host(),
                frames.address().port()));
  }

  @Override
  public AdapterReport adapterReport() {
    return report;
  }

  @Override
  public Future<List<AdapterStatus>> adapterPlaces() {
    return Future.fromCompletionStage(admin.list().subscribeAsCompletionStage());
  }

  @Override
  public Future<Void> close() {
    return vertx
        .close()
        .eventually(
            () -> {
              release();
              return Future.succeededFuture();
            });
  }

  private void release() {
    backend.close();
    checkpoint.close();
  }
}
