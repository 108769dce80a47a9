package io.infinilora.api;

import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.OverloadedException;
import io.vertx.core.http.HttpHeaders;
import io.vertx.core.http.HttpServerResponse;
import java.time.Duration;
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
 * @param retryAfter when the caller may try again, or null if that would not help
 */
record ApiError(
    int status, String type, String code, String param, String message, Duration retryAfter) {
  private static final Logger LOG = LoggerFactory.getLogger(ApiError.class);

  /** When a caller may try again where the failure does not say: 1 s. */
  private static final Duration DEFAULT_RETRY_AFTER = Duration.ofSeconds(1);

  private static final String INVALID = "invalid_request_error";

  /** The error of a failure; defects of the server are logged and not told to the caller. */
  static ApiError of(Throwable failure) {
    if (!(failure instanceof InfiniLoraException e)) {
      return internal(failure);
    }
    String param = e instanceof InvalidFieldException f ? f.field() : null;
    String message = e.getMessage();
    return switch (e.code()) {
      case INVALID_REQUEST -> new ApiError(400, INVALID, null, param, message, null);
      case CONTEXT_LENGTH_EXCEEDED ->
          new ApiError(400, INVALID, "context_length_exceeded", param, message, null);
      case CONFLICT -> new ApiError(409, INVALID, "conflict", null, message, null);
      case BAD_ADAPTER -> new ApiError(400, INVALID, "bad_adapter", "model", message, null);
      case MODEL_NOT_FOUND -> new ApiError(404, INVALID, "model_not_found", "model", message, null);
      case OVERLOADED ->
          new ApiError(429, "rate_limit_error", "overloaded", null, message, retryAfter(e));
      case UNAVAILABLE ->
          new ApiError(503, "service_unavailable", "unavailable", null, message, retryAfter(e));
      case DEADLINE_EXCEEDED ->
          new ApiError(500, "server_error", "deadline_exceeded", null, message, null);
      case BAD_MODEL_FILE, UNSUPPORTED_MODEL, DOWNLOAD_FAILED, BAD_CONFIG, INTERNAL -> internal(e);
    };
  }

  private static Duration retryAfter(InfiniLoraException refusal) {
    return refusal instanceof OverloadedException e ? e.retryAfter() : DEFAULT_RETRY_AFTER;
  }

  /** A request that HTTP itself rules out, such as an unknown path. */
  static ApiError http(int status, String message) {
    return new ApiError(status, INVALID, null, null, message, null);
  }

  private static ApiError internal(Throwable failure) {
    LOG.error("Request failed", failure);
    return new ApiError(
        500,
        "server_error",
        "internal_error",
        null,
        "The server failed; its log has the cause",
        null);
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

  /**
   * The same as vLLM shapes errors of its adapter routes: {@code code} is the status, and {@code
   * type} one of its own.
   */
  void sendAsVllm(HttpServerResponse response) {
    String vllmType =
        switch (status) {
          case 400 -> "InvalidUserInput";
          case 404 -> "NotFoundError";
          case 409 -> "ConflictError";
          default -> type;
        };
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    root.putObject("error")
        .put("message", message)
        .put("type", vllmType)
        .putNull("param")
        .put("code", status);
    send(response, root);
  }

  /** Ends a response whose head has not been written, unless the client is gone. */
  void send(HttpServerResponse response) {
    send(response, toJson());
  }

  private void send(HttpServerResponse response, ObjectNode body) {
    if (response.ended() || response.closed()) {
      return;
    }
    response.setStatusCode(status);
    response.putHeader(HttpHeaders.CONTENT_TYPE, "application/json");
    if (retryAfter != null) {
      long seconds = Math.ceilDiv(retryAfter.toMillis(), 1000L);
      response.putHeader(HttpHeaders.RETRY_AFTER, Long.toString(seconds));
    }
    response.end(body.toString());
  }
}
