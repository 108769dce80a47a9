package io.infinilora.api;

import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpHeaders;
import io.vertx.core.http.HttpServerRequest;
import io.vertx.core.http.HttpServerResponse;
import java.util.function.BiConsumer;

/**
 * Collects the body of a request up to a limit. Bodies are taken for JSON whatever their content
 * type says: {@code curl -d} names another one unless told otherwise.
 */
final class BodyReader {
  private final HttpServerRequest request;
  private final int limit;
  private final BiConsumer<Buffer, HttpServerResponse> consumer;
  private Buffer body = Buffer.buffer();
  private boolean refused;

  private BodyReader(
      HttpServerRequest request, int limit, BiConsumer<Buffer, HttpServerResponse> consumer) {
    this.request = request;
    this.limit = limit;
    this.consumer = consumer;
  }

  /**
   * Reads a request. Bodies over the limit are refused as soon as that is known, and the rest of
   * them discarded.
   */
  static void read(
      HttpServerRequest request, int limit, BiConsumer<Buffer, HttpServerResponse> consumer) {
    BodyReader reader = new BodyReader(request, limit, consumer);
    request.handler(reader::append);
    request.endHandler(ignored -> reader.end());
    if (declaredLength(request) > limit) {
      reader.refuse();
    }
  }

  private static long declaredLength(HttpServerRequest request) {
    String length = request.getHeader(HttpHeaders.CONTENT_LENGTH);
    return length == null ? -1 : Long.parseLong(length); // netty has checked the header
  }

  private void append(Buffer data) {
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

  private void end() {
    if (!refused) {
      consumer.accept(body, request.response());
    }
  }
}
