package io.infinilora.api;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.api.ApiRequest.Kind;
import io.vertx.core.http.HttpHeaders;
import io.vertx.core.http.HttpServerResponse;
import java.util.BitSet;

/**
 * Answers with server-sent events, one per piece. The head is written with the first event, so a
 * request that fails before still gets the status of its error.
 */
final class SseWriter implements AnswerWriter {
  private final HttpServerResponse response;
  private final ResponseJson json;
  private final ApiRequest request;
  private final BitSet opened = new BitSet();

  SseWriter(HttpServerResponse response, ResponseJson json, ApiRequest request) {
    this.response = response;
    this.json = json;
    this.request = request;
  }

  @Override
  public void piece(int choice, Piece piece) {
    if (request.kind() == Kind.CHAT && !opened.get(choice)) {
      opened.set(choice);
      event(json.roleChunk(choice));
    }
    if (json.tells(piece)) {
      event(json.pieceChunk(choice, piece));
    }
  }

  @Override
  public void finish(Usage usage) {
    if (request.includeUsage()) {
      writeHead();
      response.write("data: " + ResponseJson.usage(json.chunk(), usage) + "\n\n");
    }
    response.end("data: [DONE]\n\n");
  }

  @Override
  public void fail(ApiError error) {
    if (!response.headWritten()) {
      error.send(response);
    } else if (!response.ended() && !response.closed()) {
      response.end("data: " + error.toJson() + "\n\n");
    }
  }

  @Override
  public boolean full() {
    return response.writeQueueFull();
  }

  private void event(ObjectNode chunk) {
    writeHead();
    if (request.includeUsage()) {
      chunk.putNull("usage"); // only the last chunk has it
    }
    response.write("data: " + chunk + "\n\n");
  }

  private void writeHead() {
    if (!response.headWritten()) {
      response.setChunked(true);
      response.putHeader(HttpHeaders.CONTENT_TYPE, "text/event-stream; charset=utf-8");
      response.putHeader(HttpHeaders.CACHE_CONTROL, "no-cache");
      // Proxies such as nginx would collect events otherwise.
      response.putHeader("X-Accel-Buffering", "no");
    }
  }
}
