package io.infinilora.api;

import io.vertx.core.Vertx;
import io.vertx.core.http.HttpHeaders;
import io.vertx.ext.web.Router;
import io.vertx.ext.web.RoutingContext;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

/**
 * What whoever runs a process asks it: {@code /health} (it lives), {@code /ready} (it serves),
 * {@code /metrics}. Also says of everything else that it is not there.
 */
final class OperationsRoutes {
  /** Content type of Prometheus' text format. */
  private static final String PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8";

  private final Vertx vertx;
  private final BooleanSupplier ready;
  private final Supplier<String> scrape;

  /**
   * Routes that are not in use yet.
   *
   * @param scrape text of {@code /metrics}; called on a worker thread
   */
  OperationsRoutes(Vertx vertx, BooleanSupplier ready, Supplier<String> scrape) {
    this.vertx = vertx;
    this.ready = ready;
    this.scrape = scrape;
  }

  void addTo(Router router) {
    router.get("/health").handler(context -> text(context, 200, "alive\n"));
    router.get("/ready").handler(this::ready);
    router.get("/metrics").handler(this::metrics);
    router.errorHandler(404, context -> refuse(context, 404, "There is nothing at "));
    router.errorHandler(405, context -> refuse(context, 405, "This method is not allowed at "));
    router.errorHandler(400, context -> refuse(context, 400, "Malformed request for "));
    router.errorHandler(500, context -> ApiError.of(context.failure()).send(context.response()));
  }

  private void ready(RoutingContext context) {
    boolean now = ready.getAsBoolean();
    text(context, now ? 200 : 503, now ? "ready\n" : "not ready\n");
  }

  private void metrics(RoutingContext context) {
    vertx
        .executeBlocking(scrape::get, false)
        .onSuccess(
            text ->
                context.response().putHeader(HttpHeaders.CONTENT_TYPE, PROMETHEUS_TEXT).end(text))
        .onFailure(context::fail);
  }

  private static void text(RoutingContext context, int status, String text) {
    context
        .response()
        .setStatusCode(status)
        .putHeader(HttpHeaders.CONTENT_TYPE, "text/plain; charset=utf-8")
        .end(text);
  }

  private static void refuse(RoutingContext context, int status, String problem) {
    ApiError.http(status, problem + context.request().path()).send(context.response());
  }
}
