package io.infinilora.api;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.InfiniLoraException;
import io.vertx.core.http.HttpHeaders;
import io.vertx.core.http.HttpServerResponse;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * An error as OpenAI's API shapes it. The only place that knows which status a failure has.
 *
 * @param status HTTP status
 * @param type OpenAI's {@code type}
 * @param code OpenAI's {@code code}, or null
 * @param param the field at fault, or null
 * @param message for the caller
 */
record ApiError(int status, String type, String code, String param, String message) {
  private static final Logger LOG = LoggerFactory.getLogger(ApiError.class);

  /** Seconds after which a caller may try again when a queue was full or the server starting. */
  private static final String RETRY_AFTER_SECONDS = "1";

  private static final String INVALID = "invalid_request_error";

  /** The error of a failure; defects of the server are logged and not told to the caller. */
  static ApiError of(Throwable failure) {
    if (!(failure instanceof InfiniLoraException e)) {
      return internal(failure);
    }
    String param = e instanceof InvalidFieldException f ? f.field() : null;
    return switch (e.code()) {
      case INVALID_REQUEST -> new ApiError(400, INVALID, null, param, e.getMessage());
      case CONTEXT_LENGTH_EXCEEDED ->
          new ApiError(400, INVALID, "context_length_exceeded", param, e.getMessage());
      case BAD_ADAPTER -> new ApiError(400, INVALID, "bad_adapter", "model", e.getMessage());
      case MODEL_NOT_FOUND ->
          new ApiError(404, INVALID, "model_not_found", "model", e.getMessage());
      case OVERLOADED -> new ApiError(429, "rate_limit_error", "overloaded", null, e.getMessage());
      case UNAVAILABLE ->
          new ApiError(503, "service_unavailable", "unavailable", null, e.getMessage());
      case DEADLINE_EXCEEDED ->
          new ApiError(500, "server_error", "deadline_exceeded", null, e.getMessage());
      case BAD_MODEL_FILE, UNSUPPORTED_MODEL, DOWNLOAD_FAILED, BAD_CONFIG, INTERNAL -> internal(e);
    };
  }

  /** A request that HTTP itself rules out, such as an unknown path. */
  static ApiError http(int status, String message) {
    return new ApiError(status, INVALID, null, null, message);
  }

  private static ApiError internal(Throwable failure) {
    LOG.error("Request failed", failure);
    return new ApiError(
        500, "server_error", "internal_error", null, "The server failed; its log has the cause");
  }

  /** The body. */
  ObjectNode toJson() {
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    root.putObject("error")
        .put("message", message)
        .put("type", type)
        .put("param", param)
        .put("code", code);
    return root;
  }

  /** Ends a response whose head has not been written, unless the client is gone. */
  void send(HttpServerResponse response) {
    if (response.ended() || response.closed()) {
      return;
    }
    response.setStatusCode(status);
    response.putHeader(HttpHeaders.CONTENT_TYPE, "application/json");
    if (status == 429 || status == 503) {
      response.putHeader(HttpHeaders.RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    response.end(toJson().toString());
  }
}
