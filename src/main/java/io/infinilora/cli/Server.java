package io.infinilora.cli;

import io.infinilora.api.HttpOptions;
import io.infinilora.api.HttpVerticle;
import io.infinilora.api.OperationsVerticle;
import io.infinilora.api.ServedModel;
import io.infinilora.api.ServingState;
import io.infinilora.api.text.ChatTemplate;
import io.infinilora.api.text.HuggingFaceTokenizer;
import io.infinilora.cluster.ClusterNode;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.Role;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.WeightSource;
import io.infinilora.metrics.PrometheusMetrics;
import io.infinilora.node.NodeApi;
import io.infinilora.node.Nodes;
import io.infinilora.node.ServingNode;
import io.vertx.core.Deployable;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.VertxBuilder;
import io.vertx.core.VertxOptions;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

/** Runs a node behind the HTTP server until the process is asked to stop, then drains. */
final class Server {
  /** Each part of stopping takes at most this long, the drain so much beyond its timeout. */
  private static final Duration CLOSE_GRACE = Duration.ofSeconds(10);

  /** How long a scrape waits for the list of adapters. */
  private static final Duration LIST_PATIENCE = Duration.ofSeconds(5);

  private final InfiniLoraConfig config;
  private final PrintWriter out;
  private final ServingState state = new ServingState();
  private volatile BooleanSupplier working = () -> false;

  /** The HTTP server's deployment. */
  private String http;

  Server(InfiniLoraConfig config, PrintWriter out) {
    this.config = config;
    this.out = out;
  }

  /** Blocks until the process ends; returns the exit code if it could not start. */
  int run() throws InterruptedException {
    long started = System.nanoTime();
    VertxFactory.Result vertx = vertx();
    say("transport: " + vertx.reason());
    try {
      start(vertx.vertx(), started);
    } catch (InfiniLoraException e) {
      vertx.vertx().close();
      throw e;
    } catch (CompletionException e) {
      vertx.vertx().close();
      throw e.getCause() instanceof InfiniLoraException known ? known : e;
    }
    new CountDownLatch(1).await(); // The shutdown hook ends the process.
    return 0;
  }

  /** Joins the cluster unless this process is all there is. */
  private VertxFactory.Result vertx() {
    if (config.role() == Role.ALL) {
      return VertxFactory.create(new VertxOptions(), VertxBuilder::build);
    }
    return VertxFactory.create(
        ClusterNode.options(config.cluster()),
        builder -> await(ClusterNode.join(builder, config.cluster(), config.nodeName())));
  }

  private void start(Vertx vertx, long started) {
    PrometheusMetrics metrics = new PrometheusMetrics();
    // Listening comes first, so that a port in use is known before the model is loaded, and /ready
    // answers meanwhile.
    String url = listen(vertx, metrics);
    say("listening on " + url);
    ServingNode node =
        await(Nodes.start(vertx, config, metrics, PullProgress.of(out), LoadProgress.of(out)));
    Runtime.getRuntime().addShutdownHook(new Thread(() -> shutDown(vertx, node), "shutdown"));
    metrics.watchAdapters(
        () ->
            node.adapterPlaces()
                .toCompletionStage()
                .toCompletableFuture()
                .orTimeout(LIST_PATIENCE.toMillis(), TimeUnit.MILLISECONDS)
                .join());
    report(node);
    await(node.warmUp(config.server().warmUp()));
    Optional<ServedModel> served = node.api().map(this::served);
    served.ifPresent(
        model -> {
          metrics.watch(model.engine()::load, config.engine().maxRunning());
          state.open(model, node::fault);
        });
    working = () -> node.fault().isEmpty();
    say("ready after %.1f s".formatted((System.nanoTime() - started) / 1e9));
    served.ifPresent(model -> invite(model, url));
  }

  /** A LoRA server takes no requests of clients, but is asked how it is. */
  private String listen(Vertx vertx, PrometheusMetrics metrics) {
    HttpOptions options =
        new HttpOptions(
            config.server().host(),
            config.server().port(),
            (int) config.server().maxBody().bytes());
    int port;
    if (config.role() == Role.LORA) {
      OperationsVerticle server =
          new OperationsVerticle(options, () -> working.getAsBoolean(), metrics::scrape);
      deploy(vertx, server);
      port = server.port();
    } else {
      HttpVerticle server = new HttpVerticle(options, state, metrics, metrics::scrape);
      deploy(vertx, server);
      port = server.port();
    }
    return "http://%s:%d".formatted(config.server().host(), port);
  }

  /** Nothing but the address can keep these servers from starting. */
  private void deploy(Vertx vertx, Deployable server) {
    try {
      http = await(vertx.deployVerticle(server));
    } catch (CompletionException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "cannot listen on %s:%d (server.host, server.port): %s"
              .formatted(config.server().host(), config.server().port(), e.getCause().getMessage()),
          e);
    }
  }

  private ServedModel served(NodeApi api) {
    WeightSource model = config.model().orElseThrow();
    return new ServedModel(
        modelId(model),
        model.toString(),
        api.engine(),
        api.adapters(),
        HuggingFaceTokenizer.of(api.text()),
        api.text()
            .chatTemplate()
            .map(t -> new ChatTemplate(t, api.text().bosToken(), api.text().eosToken())));
  }

  /**
   * The repository's name; for files the file's name without extension and quantisation, or the
   * directory's name.
   */
  private static String modelId(WeightSource model) {
    return switch (model) {
      case WeightSource.Random(Path path) -> "random";
      case WeightSource.Local(Path path) -> stem(path.toAbsolutePath().normalize());
      case HubReference hub -> hub.file().map(file -> stem(Path.of(file))).orElse(hub.repo());
    };
  }

  private static String stem(Path path) {
    String name = path.getFileName().toString();
    return name.endsWith(".gguf") ? name.substring(0, name.length() - ".gguf".length()) : name;
  }

  private void report(ServingNode node) {
    node.describe().forEach(this::say);
    for (AdapterStatus a : node.adapterReport().loaded()) {
      say(
          "adapter %s: rank up to %d, %s, %.1f MB"
              .formatted(a.id().name(), a.maxRank(), a.targets(), a.deviceBytes() / 1e6));
    }
    for (InfiniLoraException refused : node.adapterReport().failures()) {
      say("adapter refused: " + refused.getMessage());
    }
  }

  /** The last line says what to try. */
  private void invite(ServedModel served, String url) {
    String model =
        served.engine().adapters().isEmpty()
            ? served.id()
            : served.engine().adapters().getLast().name();
    say(
        served.chatTemplate().isPresent() && served.tokenizer().isPresent()
            ? "try: curl -N %s/v1/chat/completions -H 'Content-Type: application/json' -d '%s'"
                .formatted(
                    url,
                    "{\"model\":\"%s\",\"stream\":true,\"max_tokens\":64,\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"What is the sea like?\"}]}"
                        .formatted(model))
            : "try: curl %s/v1/models".formatted(url));
  }

  private void shutDown(Vertx vertx, ServingNode node) {
    say("draining");
    Duration timeout = config.server().drainTimeout();
    boolean drained = within(timeout.plus(CLOSE_GRACE), () -> drain(vertx, node, timeout), false);
    if (drained) {
      say("drained");
    } else {
      say("gave up on requests that still ran after %s s".formatted(timeout.toMillis() / 1000.0));
      // Their clients are told, as long as there is a server that can tell them.
      within(CLOSE_GRACE, () -> undeployAllButHttp(vertx), null);
    }
    // Answers are complete, but not all of them sent.
    within(CLOSE_GRACE, () -> vertx.undeploy(http), null);
    within(CLOSE_GRACE, node::close, null);
    // An interrupted JVM would exit with 130; a drained server has done what it was asked to.
    Runtime.getRuntime().halt(0);
  }

  private Future<Void> undeployAllButHttp(Vertx vertx) {
    return Future.join(
            vertx.deploymentIDs().stream()
                .filter(id -> !id.equals(http))
                .map(vertx::undeploy)
                .toList())
        .mapEmpty();
  }

  /** What comes of it in time; otherwise says so, and what comes next is done all the same. */
  private <T> T within(Duration time, Supplier<Future<T>> task, T otherwise) {
    try {
      return task.get()
          .toCompletionStage()
          .toCompletableFuture()
          .get(time.toMillis(), TimeUnit.MILLISECONDS);
    } catch (Exception e) {
      say("stopped uncleanly: " + e);
      return otherwise;
    }
  }

  /** Waits for requests of clients and of other processes; false if time runs out before. */
  private Future<Boolean> drain(Vertx vertx, ServingNode node, Duration timeout) {
    working = () -> false;
    Promise<Boolean> others = Promise.promise();
    long timer = vertx.setTimer(Math.max(1, timeout.toMillis()), t -> others.tryComplete(false));
    node.drain().onComplete(v -> others.tryComplete(true));
    return state
        .drain(vertx, timeout)
        .compose(ours -> others.future().map(theirs -> ours && theirs))
        .onComplete(v -> vertx.cancelTimer(timer));
  }

  private void say(String line) {
    out.println(line);
    out.flush();
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().join();
  }
}
