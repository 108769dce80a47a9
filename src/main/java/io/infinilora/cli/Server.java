package io.infinilora.cli;

import io.infinilora.api.HttpOptions;
import io.infinilora.api.HttpVerticle;
import io.infinilora.api.ServedModel;
import io.infinilora.api.ServingState;
import io.infinilora.api.text.ChatTemplate;
import io.infinilora.api.text.HuggingFaceTokenizer;
import io.infinilora.cluster.ClusterNode;
import io.infinilora.config.ClusterConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.Role;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.HubReference;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TextAssets;
import io.infinilora.core.WeightSource;
import io.infinilora.metrics.PrometheusMetrics;
import io.infinilora.node.Node;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.VertxBuilder;
import io.vertx.core.VertxOptions;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** Runs a node behind the HTTP server until the process is asked to stop, then drains. */
final class Server {
  /** Stopping takes at most this long beyond the drain. */
  private static final Duration CLOSE_GRACE = Duration.ofSeconds(10);

  /** How long a scrape waits for the list of adapters. */
  private static final Duration LIST_PATIENCE = Duration.ofSeconds(5);

  private final InfiniLoraConfig config;
  private final PrintWriter out;
  private final ServingState state = new ServingState();

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
        builder -> await(ClusterNode.join(builder, config.cluster(), nodeName())));
  }

  private String nodeName() {
    ClusterConfig cluster = config.cluster();
    return cluster
        .node()
        .orElseGet(
            () ->
                "%s-%s-%d"
                    .formatted(
                        config.role().name().toLowerCase(Locale.ROOT),
                        cluster.host(),
                        cluster.port()));
  }

  private void start(Vertx vertx, long started) {
    PrometheusMetrics metrics = new PrometheusMetrics();
    HttpVerticle http =
        new HttpVerticle(
            new HttpOptions(
                config.server().host(),
                config.server().port(),
                (int) config.server().maxBody().bytes()),
            state,
            metrics,
            metrics::scrape);
    // Listening comes first, so that a port in use is known before the model is loaded, and /ready
    // answers meanwhile.
    await(vertx.deployVerticle(http));
    Node node = await(Node.start(vertx, config, metrics, PullProgress.of(out)));
    Runtime.getRuntime().addShutdownHook(new Thread(() -> shutDown(vertx, node), "shutdown"));
    metrics.watch(node.engine()::load, config.engine().maxRunning());
    metrics.watchAdapters(() -> node.adapters().list().await().atMost(LIST_PATIENCE));
    report(node);
    await(node.engine().warmUp(config.server().warmUp()));
    WeightSource model = config.model().orElseThrow();
    ServedModel served = served(node, model);
    state.open(served);
    say("ready after %.1f s".formatted((System.nanoTime() - started) / 1e9));
    invite(served, http.port());
  }

  private static ServedModel served(Node node, WeightSource model) {
    TextAssets text = node.checkpoint().text();
    return new ServedModel(
        modelId(model),
        model.toString(),
        node.engine(),
        node.adapters(),
        HuggingFaceTokenizer.of(text),
        text.chatTemplate().map(t -> new ChatTemplate(t, text.bosToken(), text.eosToken())));
  }

  /**
   * The repository's name; for files the file's name without extension and quantisation, or the
   * directory's name.
   */
  private static String modelId(WeightSource model) {
    return switch (model) {
      case WeightSource.Local(Path path) -> stem(path.toAbsolutePath().normalize());
      case HubReference hub -> hub.file().map(file -> stem(Path.of(file))).orElse(hub.repo());
    };
  }

  private static String stem(Path path) {
    String name = path.getFileName().toString();
    return name.endsWith(".gguf") ? name.substring(0, name.length() - ".gguf".length()) : name;
  }

  private void report(Node node) {
    say("model: " + node.checkpoint().describe());
    say("backend: " + node.backend().describe());
    say(
        "context %d tokens, KV cache %d blocks of %d"
            .formatted(
                node.engine().contextLength(),
                node.schedulerConfig().kvBlocks(),
                node.schedulerConfig().blockSize()));
    List<AdapterStatus> loaded = node.adapterReport().loaded();
    for (AdapterStatus a : loaded) {
      say(
          "adapter %s: rank up to %d, %s, %.1f MB"
              .formatted(a.id().name(), a.maxRank(), a.targets(), a.deviceBytes() / 1e6));
    }
    for (InfiniLoraException refused : node.adapterReport().failures()) {
      say("adapter refused: " + refused.getMessage());
    }
  }

  /** The last line says what to try. */
  private void invite(ServedModel served, int port) {
    String model =
        served.engine().adapters().isEmpty()
            ? served.id()
            : served.engine().adapters().getLast().name();
    String url = "http://%s:%d".formatted(config.server().host(), port);
    say(
        served.chatTemplate().isPresent() && served.tokenizer().isPresent()
            ? "try: curl -N %s/v1/chat/completions -H 'Content-Type: application/json' -d '%s'"
                .formatted(
                    url,
                    "{\"model\":\"%s\",\"stream\":true,\"max_tokens\":64,\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"What is the sea like?\"}]}"
                        .formatted(model))
            : "try: curl %s/v1/models".formatted(url));
  }

  private void shutDown(Vertx vertx, Node node) {
    say("draining");
    Duration timeout = config.server().drainTimeout();
    try {
      boolean drained =
          state
              .drain(vertx, timeout)
              .toCompletionStage()
              .toCompletableFuture()
              .get(timeout.plus(CLOSE_GRACE).toMillis(), TimeUnit.MILLISECONDS);
      say(drained ? "drained" : "gave up on requests that still ran after " + timeout);
      node.close()
          .toCompletionStage()
          .toCompletableFuture()
          .get(CLOSE_GRACE.toMillis(), TimeUnit.MILLISECONDS);
    } catch (Exception e) {
      say("stopped uncleanly: " + e);
    }
    // An interrupted JVM would exit with 130; a drained server has done what it was asked to.
    Runtime.getRuntime().halt(0);
  }

  private void say(String line) {
    out.println(line);
    out.flush();
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().join();
  }
}
