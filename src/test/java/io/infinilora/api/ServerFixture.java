package io.infinilora.api;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.api.text.ChatTemplate;
import io.infinilora.api.text.Tokenizer;
import io.infinilora.core.GenerateRequest;
import io.infinilora.fake.ByteTokenizer;
import io.infinilora.fake.FakeEngine;
import io.infinilora.fake.Script;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.RequestMetrics;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * A server on a free port of the loopback interface, before a fake engine, and a client for it.
 * Closing it fails if an event loop was blocked meanwhile.
 */
final class ServerFixture implements AutoCloseable {
  static final String TEMPLATE =
      "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:";

  private static final ObjectMapper JSON = new ObjectMapper();

  private final EventLoopWatch watch = new EventLoopWatch();
  final Vertx vertx = watch.vertx();
  final Tokenizer tokenizer = new ByteTokenizer();
  final FakeEngine engine =
      new FakeEngine("pirate", "haiku").plays(Script.tokens(tokens("Hello, you!")));
  final ServingState state = new ServingState();
  private final HttpClient client =
      HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
  private final int port;

  ServerFixture() {
    this(HttpOptions.DEFAULT_MAX_BODY_BYTES, RequestMetrics.NONE, "");
  }

  ServerFixture(int maxBodyBytes, RequestMetrics metrics, String scrape) {
    this(new HttpOptions("127.0.0.1", 0, maxBodyBytes), metrics, scrape);
  }

  ServerFixture(HttpOptions options, RequestMetrics metrics, String scrape) {
    HttpVerticle verticle = new HttpVerticle(options, state, metrics, () -> scrape);
    await(vertx.deployVerticle(verticle));
    port = verticle.port();
  }

  /** Opens with tokenizer and template. */
  ServerFixture open() {
    state.open(
        new ServedModel(
            "base-model",
            "/models/base",
            engine,
            Optional.of(tokenizer),
            Optional.of(new ChatTemplate(TEMPLATE, "<s>", "</s>"))));
    return this;
  }

  /** Opens with neither. */
  ServerFixture openWithoutText() {
    state.open(
        new ServedModel("base-model", "/models/base", engine, Optional.empty(), Optional.empty()));
    return this;
  }

  int port() {
    return port;
  }

  /** Token ids of a text, as the engine would generate them. */
  int[] tokens(String text) {
    return tokenizer.encode(text, false);
  }

  /** The prompt of the only request so far, as text. */
  String onlyPrompt() {
    GenerateRequest request = engine.requests.remove();
    return tokenizer.decode(request.prompt());
  }

  HttpResponse<String> get(String path) {
    return send(HttpRequest.newBuilder(uri(path)).GET().build());
  }

  HttpResponse<String> post(String path, String body) {
    return send(
        HttpRequest.newBuilder(uri(path)).POST(HttpRequest.BodyPublishers.ofString(body)).build());
  }

  HttpResponse<String> send(HttpRequest request) {
    try {
      return client.send(request, HttpResponse.BodyHandlers.ofString());
    } catch (IOException e) {
      throw new IllegalStateException(e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    }
  }

  URI uri(String path) {
    return URI.create("http://127.0.0.1:" + port + path);
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
    client.close();
    await(vertx.close());
    watch.assertSilent();
  }

  static <T> T await(Future<T> future) {
    try {
      return future.toCompletionStage().toCompletableFuture().get(20, TimeUnit.SECONDS);
    } catch (ExecutionException | TimeoutException e) {
      throw new IllegalStateException(e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    }
  }
}
