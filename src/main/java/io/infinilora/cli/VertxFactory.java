package io.infinilora.cli;

import io.vertx.core.Vertx;
import io.vertx.core.VertxBuilder;
import io.vertx.core.VertxOptions;
import io.vertx.core.transport.Transport;
import java.util.function.Function;

/** Makes a {@link Vertx} on the fastest transport that this kernel has. */
final class VertxFactory {
  private VertxFactory() {}

  /**
   * A Vertx and why it runs on what it runs on.
   *
   * @param vertx the instance
   * @param reason transport and, unless it is the first choice, why the better ones are not
   *     available
   */
  record Result(Vertx vertx, String reason) {}

  /**
   * Makes one.
   *
   * @param build finishes a builder that has options and transport
   */
  static Result create(VertxOptions options, Function<VertxBuilder, Vertx> build) {
    StringBuilder refused = new StringBuilder();
    for (Transport transport : new Transport[] {Transport.IO_URING, Transport.EPOLL}) {
      if (transport == null) {
        continue; // Its classes are not on the class path.
      }
      if (transport.available()) {
        return new Result(
            build.apply(Vertx.builder().with(options).withTransport(transport)),
            transport.name() + refused);
      }
      Throwable cause = transport.unavailabilityCause();
      while (cause != null && cause.getCause() != null) {
        cause = cause.getCause();
      }
      refused.append("; ").append(transport.name()).append(" is not available: ");
      refused.append(cause == null ? "unknown" : cause.getMessage());
    }
    return new Result(
        build.apply(Vertx.builder().with(options).withTransport(Transport.NIO)),
        Transport.NIO.name() + refused);
  }
}
