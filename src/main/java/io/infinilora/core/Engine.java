package io.infinilora.core;

import io.smallrye.mutiny.Multi;
import java.util.List;
import java.util.Optional;

/**
 * What the front ends see of a base model and its adapters. All methods may be called from any
 * thread.
 */
public interface Engine {

  /**
   * Starts a generation when subscribed to, once per subscription. Items arrive in order, on the
   * base model's event loop; at most {@code prompt + maxTokens} items exist, so the buffer of a
   * slow subscriber is bounded by the request itself. Cancelling the subscription frees everything
   * the request holds within one step. Fails with {@link InfiniLoraException}: {@code
   * MODEL_NOT_FOUND}, {@code CONTEXT_LENGTH_EXCEEDED}, {@code OVERLOADED}, {@code UNAVAILABLE},
   * {@code DEADLINE_EXCEEDED}, {@code INTERNAL}, or {@code CONFLICT} if the request is to go on
   * with an adapter generation that is gone.
   */
  Multi<TokenEvent> generate(GenerateRequest request);

  /** The base model. */
  ModelSpec model();

  /** Longest prompt plus output that a request may have. */
  int contextLength();

  /** Adapters that requests may name now. */
  List<AdapterId> adapters();

  /** The adapter of a name, if requests may name it now. */
  default Optional<AdapterId> adapter(String name) {
    return adapters().stream().filter(a -> a.name().equals(name)).findFirst();
  }

  /** Load figures at this moment. */
  EngineLoad load();
}
