package io.infinilora.api;

import io.infinilora.api.ApiRequest.Kind;
import io.infinilora.metrics.RequestMetrics;
import io.vertx.core.Future;
import io.vertx.core.VerticleBase;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpServer;
import io.vertx.core.http.HttpServerResponse;
import io.vertx.ext.web.Route;
import io.vertx.ext.web.Router;
import io.vertx.ext.web.RoutingContext;
import java.time.Duration;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * The HTTP server. Several instances may be deployed with the same options: they share the port and
 * the {@link ServingState}.
 *
 * <p>Routes: {@code /v1/models}, {@code /v1/completions}, {@code /v1/chat/completions}; {@code
 * /v1/load_lora_adapter}, {@code /v1/unload_lora_adapter}, {@code /v1/lora_adapters}; {@code
 * /health} (the process lives), {@code /ready} (requests are served), {@code /metrics}.
 */
public final class HttpVerticle extends VerticleBase {
  /** How long they may take to read them. */
  private static final Duration LAST_ANSWERS = Duration.ofSeconds(5);

  private final HttpOptions options;
  private final ServingState state;
  private final RequestMetrics metrics;
  private final Supplier<String> scrape;
  private HttpServer server;

  /**
   * A server that is not started yet.
   *
   * @param state opened by whoever loads the model
   * @param metrics told of every generation
   * @param scrape text of {@code /metrics}; called on a worker thread
   */
  public HttpVerticle(
      HttpOptions options, ServingState state, RequestMetrics metrics, Supplier<String> scrape) {
    this.options = Objects.requireNonNull(options);
    this.state = Objects.requireNonNull(state);
    this.metrics = Objects.requireNonNull(metrics);
    this.scrape = Objects.requireNonNull(scrape);
  }

  @Override
  public Future<?> start() {
    server = vertx.createHttpServer();
    return server.requestHandler(router()).listen(options.port(), options.host());
  }

  /** Answers that are complete may still lie here, for clients that are slow to read. */
  @Override
  public Future<?> stop() {
    return server.shutdown(LAST_ANSWERS.toMillis(), TimeUnit.MILLISECONDS);
  }

  /** The port that is bound, once deployed. */
  public int port() {
    return server.actualPort();
  }

  private Router router() {
    Router router = Router.router(vertx);
    ModelsRoute models = new ModelsRoute(state);
    router.get("/v1/models").handler(models::list);
    router.get("/v1/models/*").handler(models::get);
    generation(router, "/v1/completions", Kind.TEXT);
    generation(router, "/v1/chat/completions", Kind.CHAT);
    AdapterRoutes adapters = new AdapterRoutes(state);
    body(router.post("/v1/load_lora_adapter"), context -> adapters::load);
    body(router.post("/v1/unload_lora_adapter"), context -> adapters::unload);
    router.get("/v1/lora_adapters").handler(adapters::list);
    // Names may hold slashes.
    body(
        router.postWithRegex("/v1/lora_adapters/(?<name>.+)/pin"),
        context -> adapters.pin(context.pathParam("name")));
    body(
        router.postWithRegex("/v1/lora_adapters/(?<name>.+)/prefetch"),
        context -> adapters.prefetch(context.pathParam("name")));
    new OperationsRoutes(vertx, state::ready, scrape).addTo(router);
    return router;
  }

  private void generation(Router router, String path, Kind kind) {
    GenerationRoute route = new GenerationRoute(kind, state, metrics);
    body(router.post(path), context -> route::handle);
  }

  /** Has requests handled once their body is complete. */
  private void body(
      Route route, Function<RoutingContext, BiConsumer<Buffer, HttpServerResponse>> handler) {
    route.handler(
        context -> BodyReader.read(vertx, context.request(), options, handler.apply(context)));
  }
}
