package io.infinilora.api;

import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpHeaders;
import io.vertx.core.http.HttpServerRequest;
import io.vertx.core.http.HttpServerResponse;
import io.vertx.core.http.HttpVersion;
import java.util.function.BiConsumer;

/**
 * Collects the body of a request up to a limit. Bodies are taken for JSON whatever their content
 * type says: {@code curl -d} names another one unless told otherwise.
 */
final class BodyReader {
  /** Of HTTP/2 (RFC 9113, section 7). */
  private static final int NO_ERROR = 0;

  private final HttpServerRequest request;
  private final int limit;
  private final BiConsumer<Buffer, HttpServerResponse> consumer;

  private Buffer body = Buffer.buffer();
  private boolean refused;

  /** Bytes that have come, also of a body that is refused, and how many the last look found. */
  private long received;

  private long receivedBefore;

  private BodyReader(
      HttpServerRequest request, int limit, BiConsumer<Buffer, HttpServerResponse> consumer) {
    this.request = request;
    this.limit = limit;
    this.consumer = consumer;
  }

  /**
   * Reads a request. Bodies over the limit are refused as soon as that is known, and the rest of
   * them discarded. One of which nothing comes for a while is given up, and its connection closed,
   * or over HTTP/2 its stream: clients that vanish or never end their request do not hold
   * connections for ever.
   */
  static void read(
      Vertx vertx,
      HttpServerRequest request,
      HttpOptions options,
      BiConsumer<Buffer, HttpServerResponse> consumer) {
    BodyReader reader = new BodyReader(request, options.maxBodyBytes(), consumer);
    long watch = vertx.setPeriodic(options.bodyPatience().toMillis(), id -> reader.look(vertx, id));
    request.handler(reader::append);
    request.exceptionHandler(gone -> vertx.cancelTimer(watch));
    request.endHandler(
        ignored -> {
          vertx.cancelTimer(watch);
          reader.end();
        });
    if (declaredLength(request) > options.maxBodyBytes()) {
      reader.refuse();
    } else if ("100-continue".equalsIgnoreCase(request.getHeader(HttpHeaders.EXPECT))) {
      request.response().writeContinue();
    }
  }

  private static long declaredLength(HttpServerRequest request) {
    String length = request.getHeader(HttpHeaders.CONTENT_LENGTH);
    return length == null ? -1 : Long.parseLong(length); // netty has checked the header
  }

  private void append(Buffer data) {
    received += data.length();
    if (refused) {
      return;
    }
    if (body.length() + data.length() > limit) {
      refuse();
    } else {
      body.appendBuffer(data);
    }
  }

  private void refuse() {
    refused = true;
    body = Buffer.buffer();
    request.response().putHeader(HttpHeaders.CONNECTION, HttpHeaders.CLOSE);
    ApiError.http(413, "The body has more than " + limit + " bytes").send(request.response());
  }

  private void look(Vertx vertx, long watch) {
    if (received > receivedBefore) {
      receivedBefore = received;
      return;
    }
    vertx.cancelTimer(watch);
    boolean own = request.version() != HttpVersion.HTTP_2;
    if (!refused) {
      refused = true;
      if (own) {
        request.response().putHeader(HttpHeaders.CONNECTION, HttpHeaders.CLOSE);
      }
      ApiError.http(408, "The body of the request did not come").send(request.response());
    }
    if (own) {
      request.connection().close();
    } else {
      request.response().reset(NO_ERROR); // Other requests have the connection, too.
    }
  }

  private void end() {
    if (!refused) {
      consumer.accept(body, request.response());
    }
  }
}
