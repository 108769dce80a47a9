package io.infinilora.node;

import io.infinilora.backend.Backend;
import io.infinilora.backend.cuda.CudaBackend;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.Role;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterRegistry;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.ModelSpec;
import io.infinilora.engine.BaseModel;
import io.infinilora.engine.BaseModelVerticle;
import io.infinilora.engine.CoupledLora;
import io.infinilora.engine.DisaggregatedLora;
import io.infinilora.engine.LoraAttachment;
import io.infinilora.engine.NoLora;
import io.infinilora.engine.Patience;
import io.infinilora.gateway.BaseService;
import io.infinilora.gateway.ClusterTimes;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.model.LoadListener;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.hub.HubListener;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/**
 * A node with a base model in this JVM. In role {@code all}, and mode {@code disaggregated}, it has
 * the LoRA server, too; in role {@code base} that is in other processes, and gateways may use the
 * base model. Use one node per {@link Vertx}.
 */
public final class Node implements ServingNode {
  private static final String ONLY_BASE = "base-0";

  private final Vertx vertx;
  private final InfiniLoraConfig config;
  private final Checkpoint checkpoint;
  private final Backend backend;
  private final Optional<MemoryPlan> memory;
  private final SchedulerConfig schedulerConfig;
  private final BaseModelVerticle base;
  private final LoraServerPart loraServer;
  private final NodeSources sources;
  private AdapterReport adapterReport = AdapterReport.NONE;
  private NodeAdapters adapters;
  private StartAdapters startAdapters;
  private BaseService service;

  private Node(
      Vertx vertx,
      InfiniLoraConfig config,
      NodeSources sources,
      EngineMetrics metrics,
      HubListener downloads,
      LoadListener loading) {
    this.vertx = vertx;
    this.config = config;
    this.sources = sources;
    backend = Backends.open(config.device(), threads(config));
    checkpoint = open(sources, backend);
    AdapterSources adapterSources = AdapterSources.of(config, downloads);
    ModelSpec spec = checkpoint.spec();
    loraServer = new LoraServerPart(config, spec, backend, adapterSources, metrics);
    try {
      long blockBytes = KvSizing.bytesPerBlock(spec, backend);
      memory = memoryPlan(spec, blockBytes);
      schedulerConfig =
          KvSizing.schedulerConfig(
              config.engine(),
              spec,
              memory.map(MemoryPlan::keysAndValues).orElseGet(() -> kvMemory(config.engine())),
              blockBytes);
      BaseModel model =
          BaseModel.allocate(
              TransformerLoader.load(checkpoint, backend, loading), schedulerConfig, backend);
      base =
          new BaseModelVerticle(
              name(config),
              model,
              schedulerConfig,
              config.engine().threadsOrAll(),
              new Patience(
                  config.engine().stepDeadline(),
                  config.lora().adapterWait(),
                  config.lora().retryFor()),
              attachment(spec, adapterSources, metrics),
              metrics);
    } catch (RuntimeException | Error e) {
      release();
      throw e;
    }
  }

  /** The model, opened while the device prepares for it; closes the device if it is refused. */
  private static Checkpoint open(NodeSources sources, Backend backend) {
    try {
      backend.prepareForWeights();
      return sources.open();
    } catch (RuntimeException | Error e) {
      backend.close();
      throw e;
    }
  }

  /** The device; closes the model if it cannot be used. */
  static Backend open(InfiniLoraConfig config, Checkpoint model, int threads) {
    try {
      return Backends.open(config.device(), threads);
    } catch (RuntimeException | Error e) {
      model.close();
      throw e;
    }
  }

  /** Empty for a device without memory of its own. */
  private Optional<MemoryPlan> memoryPlan(ModelSpec spec, long blockBytes) {
    return backend instanceof CudaBackend cuda
        ? Optional.of(
            MemoryPlan.of(
                config,
                spec,
                cuda.scratchSizes(),
                cuda.freeMemory().orElseThrow(),
                blockBytes,
                SchedulerConfig.DEFAULT_BLOCK_SIZE))
        : Optional.empty();
  }

  private static long kvMemory(EngineConfig engine) {
    return engine.kvMemory().orElse(EngineConfig.DEFAULT_KV_MEMORY).bytes();
  }

  private static String name(InfiniLoraConfig config) {
    return config.role() == Role.ALL ? ONLY_BASE : config.nodeName();
  }

  /** Threads that are busy at the same time: those that compute, and event loops with frames. */
  private static int threads(InfiniLoraConfig config) {
    int shards = config.lora().shards().shards().size();
    return config.engine().threadsOrAll()
        + (hasLoraServer(config) ? shards * config.engine().loraThreadsOrAll() : 0)
        + (config.role() == Role.BASE ? LoraNode.FRAME_LOOPS : 0);
  }

  private static boolean hasLoraServer(InfiniLoraConfig config) {
    return config.role() == Role.ALL && config.loraMode() == LoraMode.DISAGGREGATED;
  }

  private LoraAttachment attachment(
      ModelSpec spec, AdapterSources adapterSources, EngineMetrics metrics) {
    String name = name(config);
    LoraGrid grid = config.lora().shards();
    int rows = schedulerConfig.maxBatchedTokens();
    return switch (config.loraMode()) {
      case NONE -> (v, loop, driver) -> Future.succeededFuture(new NoLora());
      case COUPLED ->
          CoupledLora.attachment(
              name, spec, backend, LoraServerPart.budgets(config.lora()), adapterSources, metrics);
      case DISAGGREGATED ->
          config.role() == Role.ALL
              ? DisaggregatedLora.attachment(name, backend, spec, grid, rows)
              : DisaggregatedLora.patientAttachment(name, backend, spec, grid, rows);
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
   * @param config of role {@code all} or {@code base}
   * @param downloads told how downloads go
   * @return fails with {@link InfiniLoraException} if the model cannot be served; adapters that
   *     were refused are in {@link #adapterReport}
   */
  public static Future<Node> start(
      Vertx vertx, InfiniLoraConfig config, EngineMetrics metrics, HubListener downloads) {
    return start(vertx, config, metrics, downloads, LoadListener.NONE);
  }

  /** The same, telling how the model is loaded. */
  static Future<Node> start(
      Vertx vertx,
      InfiniLoraConfig config,
      EngineMetrics metrics,
      HubListener downloads,
      LoadListener loading) {
    return Nodes.resolve(vertx, config, downloads)
        .compose(
            sources ->
                vertx.executeBlocking(
                    () -> new Node(vertx, config, sources, metrics, downloads, loading)))
        .compose(node -> node.deploy().map(node).onFailure(e -> node.release()));
  }

  private Future<?> deploy() {
    WireCodecs.registerAll(vertx.eventBus());
    Future<?> lora =
        hasLoraServer(config)
            ? loraServer.deploy(vertx, Optional.empty())
            : Future.succeededFuture();
    return lora.compose(v -> vertx.deployVerticle(base)).compose(v -> register());
  }

  /** Adapters of a cluster's LoRA server are registered by that. */
  private Future<?> register() {
    adapters = new NodeAdapters(base, base.adapterAdmin());
    startAdapters = new StartAdapters(vertx, config, sources, adapters);
    boolean elsewhere = config.loraMode() == LoraMode.DISAGGREGATED && !hasLoraServer(config);
    return elsewhere
        ? Future.succeededFuture()
        : startAdapters.register().onSuccess(report -> adapterReport = report);
  }

  /** Lets gateways of the cluster use the base model, from now on until the node is drained. */
  Future<?> serveGateways() {
    service =
        new BaseService(
            name(config),
            base,
            config.engine().maxRunning(),
            checkpoint.describe(),
            ModelFingerprint.of(checkpoint),
            ClusterTimes.DEFAULTS);
    return vertx.deployVerticle(service);
  }

  @Override
  public Optional<NodeApi> api() {
    return Optional.of(new NodeApi(base, adapters, checkpoint.text()));
  }

  @Override
  public Optional<InfiniLoraException> fault() {
    return backend.fault();
  }

  @Override
  public List<String> describe() {
    List<String> lines = new ArrayList<>();
    lines.add("model: " + checkpoint.describe());
    lines.add("backend: " + backend.describe());
    memory.map(MemoryPlan::describe).ifPresent(lines::add);
    lines.add(
        "context %d tokens, KV cache %d blocks of %d"
            .formatted(
                base.contextLength(), schedulerConfig.kvBlocks(), schedulerConfig.blockSize()));
    return lines;
  }

  @Override
  public Future<List<AdapterStatus>> adapterPlaces() {
    return Future.fromCompletionStage(adapters.list().subscribeAsCompletionStage());
  }

  @Override
  public Future<Void> warmUp(Duration budget) {
    return base.warmUp(budget);
  }

  @Override
  public Future<Void> drain() {
    return service == null ? Future.succeededFuture() : service.drain();
  }

  /** Follows the directory of adapters; null if that was not asked for. */
  AdapterWatch adapterWatch() {
    return startAdapters.adapterWatch();
  }

  /** The base model's engine. */
  public BaseModelVerticle engine() {
    return base;
  }

  /** Changes the adapters. */
  public AdapterRegistry adapters() {
    return adapters;
  }

  /** How the device's memory was divided; empty for a device without memory of its own. */
  Optional<MemoryPlan> memoryPlan() {
    return memory;
  }

  /** The model files. */
  public Checkpoint checkpoint() {
    return checkpoint;
  }

  /** The device. */
  public Backend backend() {
    return backend;
  }

  @Override
  public AdapterReport adapterReport() {
    return adapterReport;
  }

  /** The limits that follow from settings and model. */
  public SchedulerConfig schedulerConfig() {
    return schedulerConfig;
  }

  /** Undeploys everything by closing its {@link Vertx}, then frees memory and files. */
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
