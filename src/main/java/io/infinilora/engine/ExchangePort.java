package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.wire.LoraExchange;
import java.util.List;

/** The base model's side of a {@link LoraExchange} during one step. Driver thread only. */
final class ExchangePort extends ShardPort {
  private final LoraExchange exchange;

  ExchangePort(LoraExchange exchange, ShardStep step, OpStream ops) {
    super(exchange.spec(), exchange.shard(), step, ops);
    this.exchange = exchange;
  }

  private int rows() {
    return step.rows().length;
  }

  @Override
  public void publish(int layer, LoraSite site, Tensor x) {
    if (takesPart(layer, site)) {
      ops.gather(x, inRows(site), exchange.activations(site, rows()));
      ops.release(exchange.published(), exchange.value(step.id(), layer, site));
    }
  }

  @Override
  public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {
    if (!takesPart(layer, site)) {
      return;
    }
    if (site == LoraSite.MLP_IN || !step.sites().contains(LoraSite.MLP_IN)) {
      ops.gatherRouting(routing, step.rows(), exchange.routing(rows()));
    }
    publish(layer, site, x);
  }

  @Override
  protected void add(LoraSite site, Tensor... outs) {
    List<LoraTarget> targets = site.targets();
    for (int i = 0; i < outs.length; i++) {
      LoraTarget target = targets.get(i);
      if (step.targets().contains(target)) {
        ops.scatterAdd(exchange.delta(target, rows()), outRows(target), outs[i]);
      }
    }
  }

  @Override
  Tensor downTerms() {
    return exchange.delta(LoraTarget.DOWN, rows());
  }

  @Override
  protected Signal computed() {
    return exchange.computed();
  }

  @Override
  protected InfiniLoraException closedBy() {
    return exchange.closedBy();
  }

  @Override
  protected Throwable failure() {
    return exchange.failureOf(step.id());
  }
}
