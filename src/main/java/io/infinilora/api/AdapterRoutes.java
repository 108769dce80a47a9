package io.infinilora.api;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterLoad;
import io.smallrye.mutiny.Uni;
import io.vertx.core.Context;
import io.vertx.core.Vertx;
import io.vertx.core.buffer.Buffer;
import io.vertx.core.http.HttpHeaders;
import io.vertx.core.http.HttpServerResponse;
import io.vertx.ext.web.RoutingContext;
import java.util.function.BiConsumer;
import java.util.function.Consumer;
import java.util.function.Function;

/**
 * The routes that change adapters: {@code POST /v1/load_lora_adapter} and {@code POST
 * /v1/unload_lora_adapter} as in vLLM, and {@code /v1/lora_adapters} beside them.
 */
final class AdapterRoutes {
  private final ServingState state;

  AdapterRoutes(ServingState state) {
    this.state = state;
  }

  /** Loads or tries an adapter. */
  void load(Buffer body, HttpServerResponse response) {
    handle(
        response,
        served -> {
          RequestFields fields = RequestFields.parse(body.getBytes());
          AdapterLoad load = loadOf(fields);
          if (load.name().equals(served.id())) {
            throw new InvalidFieldException("lora_name", "is the name of the base model");
          }
          return served
              .registry()
              .load(load)
              .map(
                  proof ->
                      load.dryRun()
                          ? AdapterJson.proof(proof)
                          : "Success: LoRA adapter '%s' added successfully".formatted(load.name()));
        });
  }

  private static AdapterLoad loadOf(RequestFields fields) {
    return new AdapterLoad(
        fields.requiredString("lora_name"),
        fields.requiredString("lora_path"),
        fields.bool("load_inplace", false),
        fields.bool("pinned", false),
        fields.bool("dry_run", false),
        fields.bool("allow_no_effect", false));
  }

  /** Unloads an adapter. */
  void unload(Buffer body, HttpServerResponse response) {
    handle(
        response,
        served -> {
          RequestFields fields = RequestFields.parse(body.getBytes());
          String name = fields.requiredString("lora_name");
          fields.integer("lora_int_id"); // vLLM's clients send it; names are enough here.
          WhenInUse whenInUse =
              switch (fields.string("when_in_use").orElse("wait")) {
                case "wait" -> WhenInUse.WAIT;
                case "refuse" -> WhenInUse.REFUSE;
                default ->
                    throw new InvalidFieldException(
                        "when_in_use", "must be \"wait\" or \"refuse\"");
              };
          return served
              .registry()
              .unload(name, whenInUse)
              .map(v -> "Success: LoRA adapter '%s' removed successfully".formatted(name));
        });
  }

  /** Lists all adapters and where they lie. */
  void list(RoutingContext context) {
    handle(
        context.response(),
        served ->
            served
                .registry()
                .list()
                .map(
                    all -> {
                      ObjectNode root = JsonNodeFactory.instance.objectNode().put("object", "list");
                      ArrayNode data = root.putArray("data");
                      all.forEach(status -> data.add(AdapterJson.status(status)));
                      return root;
                    }));
  }

  /** Pins the named adapter or takes its pin back. */
  BiConsumer<Buffer, HttpServerResponse> pin(String name) {
    return (body, response) ->
        handle(
            response,
            served -> {
              RequestFields fields = RequestFields.parse(body.getBytes());
              if (fields.get("pinned") == null) {
                throw new InvalidFieldException("pinned", "is required");
              }
              return served
                  .registry()
                  .pin(name, fields.bool("pinned", true))
                  .map(AdapterJson::status);
            });
  }

  /** Prefetches the named adapter. */
  BiConsumer<Buffer, HttpServerResponse> prefetch(String name) {
    return (body, response) ->
        handle(response, served -> served.registry().prefetch(name).map(AdapterJson::status));
  }

  /** Answers with text or JSON, on the response's event loop. */
  private void handle(
      HttpServerResponse response, Function<ServedModel, Uni<? extends Object>> work) {
    Context context = Vertx.currentContext();
    Consumer<Throwable> failed = cause -> ApiError.of(cause).sendAsVllm(response);
    try {
      work.apply(state.current())
          .emitOn(task -> context.runOnContext(v -> task.run()))
          .subscribe()
          .with(answer -> send(response, answer), failed);
    } catch (RuntimeException e) {
      failed.accept(e);
    }
  }

  private static void send(HttpServerResponse response, Object answer) {
    if (response.ended() || response.closed()) {
      return;
    }
    response
        .putHeader(
            HttpHeaders.CONTENT_TYPE,
            answer instanceof String ? "text/plain; charset=utf-8" : "application/json")
        .end(answer.toString());
  }
}
