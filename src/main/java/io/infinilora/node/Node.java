package io.infinilora.node;

import io.infinilora.adapter.AdapterDirectory;
import io.infinilora.adapter.AdapterStore;
import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.ModelSpec;
import io.infinilora.engine.BaseModel;
import io.infinilora.engine.BaseModelVerticle;
import io.infinilora.engine.CoupledLora;
import io.infinilora.engine.DisaggregatedLora;
import io.infinilora.engine.LoraRuntime;
import io.infinilora.engine.NoLora;
import io.infinilora.lora.LoraServerVerticle;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.weights.hub.HubListener;
import io.infinilora.wire.LocalCodec;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.WorkerExecutor;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * A serving node in this JVM: one base model and, in {@code disaggregated} mode, one LoRA server,
 * deployed as verticles. Use one node per {@link Vertx}.
 */
public final class Node {
  private static final String BASE = "base-0";

  private final Vertx vertx;
  private final Checkpoint checkpoint;
  private final Backend backend;
  private final AdapterStore adapters;
  private final AdapterDirectory.Report adapterReport;
  private final SchedulerConfig schedulerConfig;
  private final BaseModelVerticle base;

  private Node(Vertx vertx, InfiniLoraConfig config, NodeSources sources, EngineMetrics metrics) {
    this.vertx = vertx;
    checkpoint = Checkpoints.open(sources.model());
    backend = new CpuBackend();
    ModelSpec spec = checkpoint.spec();
    adapters = new AdapterStore(spec, backend);
    try {
      adapterReport = sources.register(adapters);
      schedulerConfig = KvSizing.schedulerConfig(config.engine(), spec);
      BaseModel model =
          BaseModel.allocate(TransformerLoader.load(checkpoint, backend), schedulerConfig, backend);
      base =
          new BaseModelVerticle(
              BASE,
              model,
              schedulerConfig,
              config.engine().threadsOrAll(),
              config.engine().stepDeadline(),
              loraRuntime(config.loraMode(), spec),
              metrics);
    } catch (RuntimeException | Error e) {
      release();
      throw e;
    }
  }

  private Supplier<Future<LoraRuntime>> loraRuntime(LoraMode mode, ModelSpec spec) {
    return switch (mode) {
      case NONE -> () -> Future.succeededFuture(new NoLora());
      case COUPLED -> () -> Future.succeededFuture(new CoupledLora(adapters));
      case DISAGGREGATED -> {
        int rows = schedulerConfig.maxBatchedTokens();
        yield () -> DisaggregatedLora.attach(vertx.eventBus(), BASE, backend, spec, rows);
      }
    };
  }

  /** Starts without an ear for downloads; see the other {@code start}. */
  public static Future<Node> start(Vertx vertx, InfiniLoraConfig config, EngineMetrics metrics) {
    return start(vertx, config, metrics, HubListener.NONE);
  }

  /**
   * Downloads what is on the hub, loads everything, both on worker threads, and deploys the
   * verticles.
   *
   * @param downloads told how downloads go
   * @return fails with {@link InfiniLoraException} if the model cannot be served; adapters that
   *     were refused are in {@link #adapterReport}
   */
  public static Future<Node> start(
      Vertx vertx, InfiniLoraConfig config, EngineMetrics metrics, HubListener downloads) {
    // A worker of its own, since a download may take longer than workers otherwise may.
    WorkerExecutor downloader =
        vertx.createSharedWorkerExecutor("hub-downloads", 1, 1, TimeUnit.DAYS);
    return downloader
        .executeBlocking(() -> NodeSources.resolve(config, downloads))
        .eventually(downloader::close)
        .compose(sources -> vertx.executeBlocking(() -> new Node(vertx, config, sources, metrics)))
        .compose(node -> node.deploy(config).map(node).onFailure(e -> node.release()));
  }

  private Future<?> deploy(InfiniLoraConfig config) {
    if (config.loraMode() != LoraMode.DISAGGREGATED) {
      return vertx.deployVerticle(base);
    }
    LocalCodec.registerAll(vertx.eventBus());
    return vertx
        .deployVerticle(
            new LoraServerVerticle(adapters, backend, config.engine().loraThreadsOrAll()))
        .compose(id -> vertx.deployVerticle(base));
  }

  /** The base model's engine. */
  public BaseModelVerticle engine() {
    return base;
  }

  /** The model files. */
  public Checkpoint checkpoint() {
    return checkpoint;
  }

  /** The device. */
  public Backend backend() {
    return backend;
  }

  /** Which adapters were loaded and which were refused. */
  public AdapterDirectory.Report adapterReport() {
    return adapterReport;
  }

  /** The limits that follow from settings and model. */
  public SchedulerConfig schedulerConfig() {
    return schedulerConfig;
  }

  /** Undeploys everything by closing its {@link Vertx}, then frees memory and files. */
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
    adapters.close();
    backend.close();
    checkpoint.close();
  }
}
