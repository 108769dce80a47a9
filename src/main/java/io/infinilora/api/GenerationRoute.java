package io.infinilora.api;

import io.infinilora.api.ApiRequest.Kind;
import io.infinilora.metrics.RequestMetrics;
import io.vertx.core.Context;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpServerResponse;
import java.util.Optional;
import java.util.UUID;

/** {@code POST /v1/completions} and {@code POST /v1/chat/completions}. */
final class GenerationRoute {
  private final Kind kind;
  private final ServingState state;
  private final RequestMetrics metrics;

  GenerationRoute(Kind kind, ServingState state, RequestMetrics metrics) {
    this.kind = kind;
    this.state = state;
    this.metrics = metrics;
  }

  /** Answers a request whose body is complete. Called on the response's event loop. */
  void handle(Buffer body, HttpServerResponse response) {
    ServedModel served;
    try {
      served = state.enter();
    } catch (RuntimeException e) {
      ApiError.of(e).send(response);
      return;
    }
    Context context = Vertx.currentContext();
    try {
      ApiRequest request =
          ApiRequest.of(
              kind, RequestFields.parse(body.getBytes()), served.engine().model().vocab());
      Optional<String> adapter = served.adapterOf(request.model());
      served.requireTokenizerFor(request);
      new PromptEncoder(served, request)
          .encode(context)
          .onComplete(
              encoded -> {
                if (encoded.failed()) {
                  refuse(encoded.cause(), response);
                } else if (response.closed()) {
                  state.leave(); // the client went away while its prompt was tokenised
                } else {
                  answer(served, request, adapter, response).start(context, encoded.result());
                }
              });
    } catch (RuntimeException e) {
      refuse(e, response);
    }
  }

  private Answer answer(
      ServedModel served,
      ApiRequest request,
      Optional<String> adapter,
      HttpServerResponse response) {
    String id = (kind == Kind.CHAT ? "chatcmpl-" : "cmpl-") + UUID.randomUUID();
    ResponseJson json =
        new ResponseJson(request, id, System.currentTimeMillis() / 1000, served.tokenizer());
    int choices = request.n() * Math.max(1, request.prompts().size());
    AnswerWriter writer =
        request.stream()
            ? new SseWriter(response, json, request)
            : new WholeAnswerWriter(response, json, choices);
    return new Answer(served, request, id, adapter, response, writer, metrics, state::leave);
  }

  private void refuse(Throwable failure, HttpServerResponse response) {
    state.leave();
    ApiError.of(failure).send(response);
  }
}
