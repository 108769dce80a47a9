package io.infinilora.api;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.AdapterId;
import io.vertx.core.http.HttpHeaders;
import io.vertx.ext.web.RoutingContext;

/**
 * {@code GET /v1/models} and {@code GET /v1/models/ID}: the base model and its adapters. As in
 * vLLM, {@code parent} of an adapter is the base model's id.
 */
final class ModelsRoute {
  private final ServingState state;
  private final long created = System.currentTimeMillis() / 1000;

  ModelsRoute(ServingState state) {
    this.state = state;
  }

  /** Lists all. */
  void list(RoutingContext context) {
    ServedModel served = state.current();
    ObjectNode root = JsonNodeFactory.instance.objectNode().put("object", "list");
    ArrayNode data = root.putArray("data");
    data.add(base(served));
    served.adapters().forEach(adapter -> data.add(adapter(served, adapter)));
    send(context, root);
  }

  /** Describes one. */
  void get(RoutingContext context) {
    ServedModel served = state.current();
    String id = context.pathParam("*");
    send(
        context,
        served
            .adapterOf(id)
            .flatMap(
                name -> served.adapters().stream().filter(a -> a.name().equals(name)).findFirst())
            .map(a -> adapter(served, a))
            .orElseGet(() -> base(served)));
  }

  private ObjectNode base(ServedModel served) {
    return model(served, served.id()).put("root", served.root()).putNull("parent");
  }

  private ObjectNode adapter(ServedModel served, AdapterId adapter) {
    return model(served, adapter.name()).put("root", adapter.toString()).put("parent", served.id());
  }

  private ObjectNode model(ServedModel served, String id) {
    return JsonNodeFactory.instance
        .objectNode()
        .put("id", id)
        .put("object", "model")
        .put("created", created)
        .put("owned_by", "infinilora")
        .put("max_model_len", served.engine().contextLength());
  }

  private static void send(RoutingContext context, ObjectNode json) {
    context.response().putHeader(HttpHeaders.CONTENT_TYPE, "application/json").end(json.toString());
  }
}
