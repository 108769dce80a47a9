package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.api.HttpOptions;
import io.infinilora.api.HttpVerticle;
import io.infinilora.api.ServedModel;
import io.infinilora.api.ServingState;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.core.EngineLoad;
import io.infinilora.fake.StepGate;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.PrometheusMetrics;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.function.BooleanSupplier;

/**
 * A whole node behind its HTTP server, as {@code serve} assembles it, and a client. The model has
 * no tokenizer, so prompts and answers are token ids. Closing it fails if anything is still held or
 * if an event loop was blocked meanwhile.
 */
final class ServedNode implements AutoCloseable {
  /** Name of the base model in requests. */
  static final String BASE = "base-model";

  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Duration PATIENCE = Duration.ofMinutes(2);

  final ServingState state = new ServingState();
  final StepGate gate;
  private final EventLoopWatch watch = new EventLoopWatch();
  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private final Node node;
  private final int port;

  /**
   * A completion's answer.
   *
   * @param tokens of the only choice
   * @param finish its finish reason; null if the answer is not complete
   */
  record Answer(int status, List<Integer> tokens, String finish, HttpResponse<String> response) {}

  ServedNode(InfiniLoraConfig config) {
    PrometheusMetrics metrics = new PrometheusMetrics();
    gate = new StepGate(metrics);
    HttpVerticle http =
        new HttpVerticle(
            new HttpOptions("127.0.0.1", 0, HttpOptions.DEFAULT_MAX_BODY_BYTES),
            state,
            metrics,
            metrics::scrape);
    Generations.await(vertx().deployVerticle(http));
    port = http.port();
    node = Generations.await(Node.start(vertx(), config, gate));
    metrics.watch(node.engine()::load, config.engine().maxRunning());
    metrics.watchAdapters(() -> node.adapters().list().await().atMost(PATIENCE));
    state.open(
        new ServedModel(
            BASE, "fixture", node.engine(), node.adapters(), Optional.empty(), Optional.empty()));
  }

  /** Looks at the directory of adapters. */
  void poll() {
    node.adapterWatch().poll().await().atMost(PATIENCE);
  }

  /** Looks as the server does by itself, now and then. */
  void follow() {
    node.adapterWatch().follow().await().atMost(PATIENCE);
  }

  Vertx vertx() {
    return watch.vertx();
  }

  int port() {
    return port;
  }

  EngineLoad load() {
    return node.engine().load();
  }

  /** A request for greedy tokens without regard to end-of-sequence tokens. */
  static String body(String model, int[] prompt, int tokens, boolean stream) {
    return JSON.createObjectNode()
        .put("model", model)
        .put("max_tokens", tokens)
        .put("temperature", 0)
        .put("ignore_eos", true)
        .put("stream", stream)
        .<ObjectNode>set("prompt", JSON.valueToTree(prompt))
        .toString();
  }

  CompletableFuture<Answer> complete(String body) {
    return client
        .sendAsync(
            HttpRequest.newBuilder(uri("/v1/completions"))
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build(),
            HttpResponse.BodyHandlers.ofString())
        .thenApply(ServedNode::answer)
        .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS);
  }

  CompletableFuture<HttpResponse<String>> postAsync(String path, String body) {
    return client
        .sendAsync(
            HttpRequest.newBuilder(uri(path))
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build(),
            HttpResponse.BodyHandlers.ofString())
        .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS);
  }

  HttpResponse<String> post(String path, String body) {
    return postAsync(path, body).join();
  }

  HttpResponse<String> get(String path) {
    return client
        .sendAsync(HttpRequest.newBuilder(uri(path)).build(), HttpResponse.BodyHandlers.ofString())
        .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS)
        .join();
  }

  /** A metric as {@code /metrics} shows it, labels and all; 0 if it is not there. */
  double metric(String name) {
    return get("/metrics")
        .body()
        .lines()
        .filter(line -> line.startsWith(name + " "))
        .mapToDouble(line -> Double.parseDouble(line.substring(name.length() + 1)))
        .sum();
  }

  /** Asks the server for its health, which takes a turn of its event loop, until this holds. */
  void until(BooleanSupplier condition) {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (!condition.getAsBoolean()) {
      assertThat(System.nanoTime()).as("time until it holds").isLessThan(deadline);
      assertThat(get("/health").statusCode()).isEqualTo(200);
    }
  }

  private URI uri(String path) {
    return URI.create("http://127.0.0.1:" + port + path);
  }

  private static Answer answer(HttpResponse<String> response) {
    List<Integer> tokens = new ArrayList<>();
    String finish = null;
    if (response.statusCode() == 200) {
      for (JsonNode part : parts(response)) {
        JsonNode choice = part.required("choices").required(0);
        choice.path("token_ids").forEach(id -> tokens.add(id.asInt()));
        finish = choice.path("finish_reason").asText(finish);
      }
    }
    return new Answer(response.statusCode(), tokens, finish, response);
  }

  private static List<JsonNode> parts(HttpResponse<String> response) {
    if (response.headers().firstValue("content-type").orElse("").startsWith("application/json")) {
      return List.of(json(response.body()));
    }
    String[] events = response.body().split("\n\n", -1);
    assertThat(events).endsWith("data: [DONE]", "");
    List<JsonNode> parts = new ArrayList<>();
    for (int i = 0; i < events.length - 2; i++) {
      assertThat(events[i]).startsWith("data: ");
      parts.add(json(events[i].substring("data: ".length())));
    }
    return parts;
  }

  static JsonNode json(String text) {
    try {
      return JSON.readTree(text);
    } catch (IOException e) {
      throw new IllegalStateException(text, e);
    }
  }

  @Override
  public void close() {
    gate.open();
    Generations.await(node.engine().drain());
    EngineLoad left = load();
    int active = state.active();
    client.close();
    Generations.await(node.close());
    assertThat(active).as("requests being served").isZero();
    assertThat(left)
        .as("what the engine holds")
        .isEqualTo(new EngineLoad(0, 0, 0, left.kvBlocksTotal(), 0));
    watch.assertSilent();
  }
}
