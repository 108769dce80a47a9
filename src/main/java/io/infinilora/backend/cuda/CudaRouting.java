package io.infinilora.backend.cuda;

import io.infinilora.backend.Routing;
import java.util.Objects;

/**
 * Chosen experts: {@code [rows, topK]} of int32 and of float32.
 *
 * @param choices device address of the experts; -1 for none
 * @param weights device address of their weights
 * @param capacity rows that there is memory for
 */
record CudaRouting(
    CudaBackend owner,
    int rows,
    int topK,
    int experts,
    long choices,
    long weights,
    RoutingPlan plan,
    int capacity)
    implements Routing {

  @Override
  public Routing first(int count) {
    Objects.checkFromToIndex(0, count, capacity);
    return new CudaRouting(owner, count, topK, experts, choices, weights, plan, capacity);
  }

  String shape() {
    return "[%d, %d of %d]".formatted(rows, topK, experts);
  }
}
