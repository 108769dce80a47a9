package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.model.LoraPort;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraStep;
import java.util.List;

/** The base model's side of a {@link LoraExchange} during one step. Driver thread only. */
final class ExchangePort implements LoraPort {
  private final LoraStep step;
  private final int[] rows;
  private final OpStream ops;

  /**
   * A port for one step.
   *
   * @param rows the step's rows that use an adapter, in the order of the exchange
   */
  ExchangePort(LoraStep step, int[] rows, OpStream ops) {
    this.step = step;
    this.rows = rows;
    this.ops = ops;
  }

  @Override
  public void publish(int layer, LoraSite site, Tensor x) {
    if (!step.sites().contains(site)) {
      return;
    }
    LoraExchange exchange = step.exchange();
    ops.gather(x, rows, exchange.activations(site).first(rows.length));
    ops.release(exchange.published(), exchange.value(step.id(), layer, site));
  }

  @Override
  public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
    if (!step.sites().contains(site)) {
      return;
    }
    LoraExchange exchange = step.exchange();
    boolean arrived =
        ops.await(
            exchange.computed(), exchange.value(step.id(), layer, site), step.deadlineNanos());
    Throwable failure = exchange.failureOf(step.id());
    if (failure != null) {
      throw new InfiniLoraException(
          failure instanceof InfiniLoraException e ? e.code() : ErrorCode.INTERNAL,
          "the LoRA server could not compute this step: " + failure.getMessage(),
          failure);
    }
    if (!arrived) {
      throw new InfiniLoraException(
          ErrorCode.DEADLINE_EXCEEDED,
          "the LoRA server did not answer for layer %d %s before the step's deadline"
              .formatted(layer, site));
    }
    List<LoraTarget> targets = site.targets();
    for (int i = 0; i < outs.length; i++) {
      if (step.targets().contains(targets.get(i))) {
        ops.scatterAdd(exchange.delta(targets.get(i)).first(rows.length), rows, outs[i]);
      }
    }
  }

  @Override
  public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {
    throw new UnsupportedOperationException("routed experts");
  }

  @Override
  public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
    throw new UnsupportedOperationException("routed experts");
  }
}
