package io.infinilora.api;

import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.FinishReason;
import io.vertx.core.http.HttpHeaders;
import io.vertx.core.http.HttpServerResponse;
import java.util.ArrayList;
import java.util.List;

/** Collects all pieces and answers once, with JSON. */
final class WholeAnswerWriter implements AnswerWriter {
  private final HttpServerResponse response;
  private final ResponseJson json;
  private final List<Collected> choices = new ArrayList<>();

  private static final class Collected {
    final StringBuilder text = new StringBuilder();
    final List<TokenEntry> tokens = new ArrayList<>();
    FinishReason finish;
  }

  WholeAnswerWriter(HttpServerResponse response, ResponseJson json, int choices) {
    this.response = response;
    this.json = json;
    for (int i = 0; i < choices; i++) {
      this.choices.add(new Collected());
    }
  }

  @Override
  public void piece(int choice, Piece piece) {
    Collected c = choices.get(choice);
    c.text.append(piece.text());
    c.tokens.addAll(piece.tokens());
    c.finish = piece.finish();
  }

  @Override
  public void finish(Usage usage) {
    ObjectNode answer = json.whole();
    for (int i = 0; i < choices.size(); i++) {
      Collected c = choices.get(i);
      json.addWhole(answer, i, new Piece(c.text.toString(), c.tokens, c.finish));
    }
    response.putHeader(HttpHeaders.CONTENT_TYPE, "application/json");
    response.end(ResponseJson.usage(answer, usage).toString());
  }

  @Override
  public void fail(ApiError error) {
    error.send(response);
  }

  @Override
  public boolean full() {
    return false;
  }
}
