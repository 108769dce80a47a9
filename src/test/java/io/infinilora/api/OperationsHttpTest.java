package io.infinilora.api;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.fake.Script;
import io.infinilora.metrics.RequestMetrics;
import io.vertx.core.Future;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Models, health, readiness, metrics and the graceful end. */
class OperationsHttpTest {
  private static final String BODY = "{\"model\":\"base-model\",\"prompt\":\"x\",\"stream\":true}";

  private final ServerFixture server =
      new ServerFixture(HttpOptions.DEFAULT_MAX_BODY_BYTES, RequestMetrics.NONE, "a_metric 1\n");

  @AfterEach
  void close() {
    server.close();
  }

  @Test
  void isAliveButNotReadyBeforeTheModelIsLoaded() {
    assertThat(server.get("/health").statusCode()).isEqualTo(200);
    assertThat(server.get("/ready").statusCode()).isEqualTo(503);
    HttpResponse<String> early = server.post("/v1/completions", BODY);
    assertThat(early.statusCode()).isEqualTo(503);
    assertThat(early.body()).contains("still loading");
    assertThat(server.get("/v1/models").statusCode()).isEqualTo(503);

    server.open();
    assertThat(server.get("/ready").statusCode()).isEqualTo(200);
    assertThat(server.post("/v1/completions", BODY).statusCode()).isEqualTo(200);
  }

  /** As when a GPU fails. */
  @Test
  void isNotReadyAndSaysWhyOnceTheModelCannotGoOn() {
    AtomicReference<InfiniLoraException> fault = new AtomicReference<>();
    server.state.open(
        new ServedModel(
            "base-model",
            "/models/base",
            server.engine,
            Optional.of(server.tokenizer),
            Optional.empty()),
        () -> Optional.ofNullable(fault.get()));
    assertThat(server.get("/ready").statusCode()).isEqualTo(200);

    fault.set(
        new InfiniLoraException(
            ErrorCode.UNAVAILABLE, "the GPU cannot be used by this process any more: restart it"));

    assertThat(server.get("/health").statusCode()).isEqualTo(200);
    assertThat(server.get("/ready").statusCode()).isEqualTo(503);
    HttpResponse<String> refused = server.post("/v1/completions", BODY);
    assertThat(refused.statusCode()).isEqualTo(503);
    assertThat(refused.body())
        .contains("the GPU cannot be used by this process any more: restart it");
    assertThat(server.state.active()).isZero();
  }

  @Test
  void listsTheBaseModelAndItsAdapters() {
    server.open();

    JsonNode list = ServerFixture.json(server.get("/v1/models").body());

    assertThat(list.path("object").asText()).isEqualTo("list");
    assertThat(list.path("data")).hasSize(3);
    JsonNode base = list.path("data").path(0);
    assertThat(base.path("id").asText()).isEqualTo("base-model");
    assertThat(base.path("object").asText()).isEqualTo("model");
    assertThat(base.path("root").asText()).isEqualTo("/models/base");
    assertThat(base.path("parent").isNull()).isTrue();
    assertThat(base.path("max_model_len").asInt()).isEqualTo(256);
    JsonNode adapter = ServerFixture.json(server.get("/v1/models/haiku").body());
    assertThat(adapter.path("id").asText()).isEqualTo("haiku");
    assertThat(adapter.path("parent").asText()).isEqualTo("base-model");
    assertThat(adapter).isEqualTo(list.path("data").path(2));
    assertThat(ServerFixture.json(server.get("/v1/models/base-model").body())).isEqualTo(base);
    assertThat(server.get("/v1/models/nope").statusCode()).isEqualTo(404);
  }

  @Test
  void findsModelsWhoseNameHasASlash() {
    server.state.open(
        new ServedModel("org/model", "x", server.engine, Optional.empty(), Optional.empty()));

    assertThat(server.get("/v1/models/org/model").body()).contains("\"id\":\"org/model\"");
    assertThat(server.get("/v1/models/org%2Fmodel").body()).contains("\"id\":\"org/model\"");
  }

  @Test
  void showsMetrics() {
    HttpResponse<String> response = server.get("/metrics");

    assertThat(response.body()).isEqualTo("a_metric 1\n");
    assertThat(response.headers().firstValue("content-type").orElseThrow())
        .startsWith("text/plain; version=0.0.4");
  }

  @Test
  void drainsAtOnceWhenIdle() throws Exception {
    server.open();

    assertThat(await(server.state.drain(server.vertx, Duration.ofMinutes(1)))).isTrue();

    assertThat(server.get("/ready").statusCode()).isEqualTo(503);
    assertThat(server.get("/health").statusCode()).isEqualTo(200);
    HttpResponse<String> late = server.post("/v1/completions", BODY);
    assertThat(late.statusCode()).isEqualTo(503);
    assertThat(late.body()).contains("shutting down");
  }

  @Test
  void drainingLetsRunningRequestsFinish() throws Exception {
    server.open();
    CompletableFuture<Boolean> goOn = new CompletableFuture<>();
    server.engine.plays(Script.tokens('a', 'b', 'c', 'd', 'e').pausingAfter(3, goOn));
    CompletableFuture<HttpResponse<String>> running =
        HttpClient.newHttpClient()
            .sendAsync(
                HttpRequest.newBuilder(server.uri("/v1/completions"))
                    .POST(HttpRequest.BodyPublishers.ofString(BODY))
                    .build(),
                HttpResponse.BodyHandlers.ofString());
    server.engine.paused.acquire();

    Future<Boolean> drained = server.state.drain(server.vertx, Duration.ofMinutes(1));
    assertThat(server.post("/v1/completions", BODY).statusCode()).isEqualTo(503);
    assertThat(drained.isComplete()).isFalse();
    goOn.complete(true);

    assertThat(await(drained)).isTrue();
    assertThat(running.get(20, TimeUnit.SECONDS).body()).endsWith("data: [DONE]\n\n");
  }

  @Test
  void drainingGivesUpAfterItsTimeout() throws Exception {
    server.open();
    CompletableFuture<Boolean> goOn = new CompletableFuture<>();
    server.engine.plays(Script.tokens('a', 'b', 'c', 'd', 'e').pausingAfter(3, goOn));
    CompletableFuture<HttpResponse<String>> running =
        HttpClient.newHttpClient()
            .sendAsync(
                HttpRequest.newBuilder(server.uri("/v1/completions"))
                    .POST(HttpRequest.BodyPublishers.ofString(BODY))
                    .build(),
                HttpResponse.BodyHandlers.ofString());
    server.engine.paused.acquire();

    assertThat(await(server.state.drain(server.vertx, Duration.ofMillis(1)))).isFalse();

    goOn.complete(true);
    running.get(20, TimeUnit.SECONDS);
  }

  private static boolean await(Future<Boolean> future) throws Exception {
    return future.toCompletionStage().toCompletableFuture().get(20, TimeUnit.SECONDS);
  }
}
