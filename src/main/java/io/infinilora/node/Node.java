package io.infinilora.node;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterRegistry;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.engine.BaseModel;
import io.infinilora.engine.BaseModelVerticle;
import io.infinilora.engine.CoupledLora;
import io.infinilora.engine.DisaggregatedLora;
import io.infinilora.engine.LoraAttachment;
import io.infinilora.engine.NoLora;
import io.infinilora.engine.Patience;
import io.infinilora.lora.LoraServerVerticle;
import io.infinilora.lora.LoraShardVerticle;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.weights.hub.HubListener;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.WorkerExecutor;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * A serving node in this JVM: one base model and, in {@code disaggregated} mode, one LoRA server,
 * deployed as verticles. Use one node per {@link Vertx}.
 */
public final class Node {
  private static final String BASE = "base-0";

  private final Vertx vertx;
  private final InfiniLoraConfig config;
  private final EngineMetrics metrics;
  private final Checkpoint checkpoint;
  private final Backend backend;
  private AdapterReport adapterReport = new AdapterReport(List.of(), List.of());
  private final SchedulerConfig schedulerConfig;
  private final BaseModelVerticle base;
  private final AdapterSources adapterSources;
  private NodeAdapters adapters;
  private AdapterWatch adapterWatch;

  private Node(
      Vertx vertx,
      InfiniLoraConfig config,
      NodeSources sources,
      EngineMetrics metrics,
      HubListener downloads) {
    this.vertx = vertx;
    this.config = config;
    this.metrics = metrics;
    checkpoint = Checkpoints.open(sources.model());
    adapterSources = AdapterSources.of(config, downloads);
    backend = new CpuBackend(threads(config) <= Runtime.getRuntime().availableProcessors());
    ModelSpec spec = checkpoint.spec();
    try {
      schedulerConfig = KvSizing.schedulerConfig(config.engine(), spec);
      BaseModel model =
          BaseModel.allocate(TransformerLoader.load(checkpoint, backend), schedulerConfig, backend);
      base =
          new BaseModelVerticle(
              BASE,
              model,
              schedulerConfig,
              config.engine().threadsOrAll(),
              new Patience(
                  config.engine().stepDeadline(),
                  config.lora().adapterWait(),
                  config.lora().retryFor()),
              attachment(spec),
              metrics);
    } catch (RuntimeException | Error e) {
      release();
      throw e;
    }
  }

  /** Threads that compute at the same time. */
  private static int threads(InfiniLoraConfig config) {
    int shards = config.lora().shards().shards().size();
    return config.engine().threadsOrAll()
        + (config.loraMode() == LoraMode.DISAGGREGATED
            ? shards * config.engine().loraThreadsOrAll()
            : 0);
  }

  private LoraAttachment attachment(ModelSpec spec) {
    return switch (config.loraMode()) {
      case NONE -> (v, loop, driver) -> Future.succeededFuture(new NoLora());
      case COUPLED ->
          CoupledLora.attachment(BASE, spec, backend, budgets(), adapterSources, metrics);
      case DISAGGREGATED ->
          DisaggregatedLora.attachment(
              BASE, backend, spec, config.lora().shards(), schedulerConfig.maxBatchedTokens());
    };
  }

  private AdapterBudgets budgets() {
    return new AdapterBudgets(
        config.lora().deviceMemory().bytes(),
        config.lora().hostMemory().bytes(),
        config.lora().eviction());
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
        .compose(
            sources ->
                vertx
                    .executeBlocking(() -> new Node(vertx, config, sources, metrics, downloads))
                    .compose(
                        node ->
                            node.deploy()
                                .compose(v -> node.register(sources))
                                .map(node)
                                .onFailure(e -> node.release())));
  }

  private Future<?> deploy() {
    if (config.loraMode() != LoraMode.DISAGGREGATED) {
      return vertx.deployVerticle(base);
    }
    WireCodecs.registerAll(vertx.eventBus());
    List<Future<?>> shards = new ArrayList<>();
    for (LoraShard shard : config.lora().shards().shards()) {
      shards.add(
          vertx.deployVerticle(
              new LoraShardVerticle(
                  checkpoint.spec(),
                  shard,
                  backend,
                  budgets(),
                  config.engine().loraThreadsOrAll(),
                  adapterSources,
                  metrics,
                  Optional.empty())));
    }
    return Future.all(shards)
        .compose(all -> vertx.deployVerticle(new LoraServerVerticle(config.lora().shards())))
        .compose(id -> vertx.deployVerticle(base));
  }

  private Future<AdapterReport> register(NodeSources sources) {
    adapters = new NodeAdapters(base, base.adapterAdmin());
    return watch(sources)
        .compose(
            v ->
                Future.fromCompletionStage(sources.register(adapters).subscribeAsCompletionStage()))
        .onSuccess(report -> adapterReport = report);
  }

  /** Looks before adapters are registered, so that a change meanwhile is noticed. */
  private Future<?> watch(NodeSources sources) {
    if (config.lora().watch().isEmpty() || sources.adapterDirectory().isEmpty()) {
      return Future.succeededFuture();
    }
    return vertx
        .executeBlocking(
            () -> AdapterWatch.of(sources.adapterDirectory().get(), vertx, adapters), false)
        .onSuccess(
            watch -> {
              adapterWatch = watch;
              watch.every(config.lora().watch().get());
            });
  }

  /** Follows the directory of adapters; null if that was not asked for. */
  AdapterWatch adapterWatch() {
    return adapterWatch;
  }

  /** The base model's engine. */
  public BaseModelVerticle engine() {
    return base;
  }

  /** Changes the adapters. */
  public AdapterRegistry adapters() {
    return adapters;
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
  public AdapterReport adapterReport() {
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
    backend.close();
    checkpoint.close();
  }
}
