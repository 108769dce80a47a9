package io.infinilora.api;

import io.vertx.core.Future;
import io.vertx.core.VerticleBase;
import io.vertx.core.http.HttpServer;
import io.vertx.ext.web.Router;
import java.util.Objects;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;

/**
 * The HTTP server of a process that takes no requests from clients: {@code /health}, {@code
 * /ready}, {@code /metrics}.
 */
public final class OperationsVerticle extends VerticleBase {
  private final HttpOptions options;
  private final BooleanSupplier ready;
  private final Supplier<String> scrape;
  private HttpServer server;

  /**
   * A server that is not started yet.
   *
   * @param ready whether the process does its work; any thread
   * @param scrape text of {@code /metrics}; called on a worker thread
   */
  public OperationsVerticle(HttpOptions options, BooleanSupplier ready, Supplier<String> scrape) {
    this.options = Objects.requireNonNull(options);
    this.ready = Objects.requireNonNull(ready);
    this.scrape = Objects.requireNonNull(scrape);
  }

  @Override
  public Future<?> start() {
    Router router = Router.router(vertx);
    new OperationsRoutes(vertx, ready, scrape).addTo(router);
    server = vertx.createHttpServer();
    return server.requestHandler(router).listen(options.port(), options.host());
  }

  /** The port that is bound, once deployed. */
  public int port() {
    return server.actualPort();
  }
}
