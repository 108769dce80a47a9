package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.model.LoraPort;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraStep;
import java.util.List;

/** The base model's side of a {@link LoraExchange} during one step. Driver thread only. */
final class ExchangePort implements LoraPort {
  private static final long LOOK_UP_NANOS = 20_000_000;

  private final LoraStep step;
  private final LoraExchange exchange;
  private final int[] rows;
  private final int[] routedRows;
  private final OpStream ops;

  /**
   * A port for one step.
   *
   * @param rows the step's rows that use an adapter, in the order of the exchange
   */
  ExchangePort(LoraStep step, int[] rows, OpStream ops) {
    this.step = step;
    this.exchange = step.exchange();
    this.rows = rows;
    this.routedRows = routed(rows, exchange.spec());
    this.ops = ops;
  }

  /** The rows of all choices of {@code rows}, in a tensor with a row per row and choice. */
  private static int[] routed(int[] rows, ModelSpec spec) {
    int topK = spec.inRows(LoraSite.MLP_OUT);
    if (topK == 1) {
      return rows;
    }
    int[] all = new int[rows.length * topK];
    for (int i = 0; i < all.length; i++) {
      all[i] = rows[i / topK] * topK + i % topK;
    }
    return all;
  }

  @Override
  public void publish(int layer, LoraSite site, Tensor x) {
    if (takesPart(layer, site)) {
      ops.gather(x, rows, exchange.activations(site, rows.length));
      ops.release(exchange.published(), exchange.value(step.id(), layer, site));
    }
  }

  @Override
  public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
    if (takesPart(layer, site)) {
      await(layer, site);
      add(site, outs);
    }
  }

  @Override
  public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {
    if (!takesPart(layer, site)) {
      return;
    }
    if (site == LoraSite.MLP_IN || !step.sites().contains(LoraSite.MLP_IN)) {
      ops.gatherRouting(routing, rows, exchange.routing(rows.length));
    }
    ops.gather(
        x, site == LoraSite.MLP_IN ? rows : routedRows, exchange.activations(site, rows.length));
    ops.release(exchange.published(), exchange.value(step.id(), layer, site));
  }

  @Override
  public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
    join(layer, site, x, outs);
  }

  /** Whether the shard computes something of this site in this step. */
  boolean takesPart(int layer, LoraSite site) {
    return step.sites().contains(site) && exchange.holds(layer, site);
  }

  /** Whether the shard answers {@code down} by terms that are not summed yet. */
  boolean terms() {
    return exchange.terms();
  }

  /** The terms of {@code down}, once they are there; may be changed until the next layer. */
  Tensor downTerms() {
    return exchange.delta(LoraTarget.DOWN, rows.length);
  }

  /** Adds the sums of the terms of {@code down}. */
  void addTerms(Tensor out) {
    ops.scatterAddTerms(downTerms(), exchange.outRows(LoraTarget.DOWN), rows, out);
  }

  /** Waits for a site's deltas. */
  void await(int layer, LoraSite site) {
    boolean arrived = arrives(exchange.value(step.id(), layer, site));
    InfiniLoraException gone = exchange.closedBy();
    if (gone != null) {
      throw LoraSideException.of(gone);
    }
    Throwable failure = exchange.failureOf(step.id());
    if (failure != null) {
      throw new LoraSideException(
          failure instanceof InfiniLoraException e ? e.code() : ErrorCode.INTERNAL,
          "the LoRA server could not compute this step: " + failure.getMessage(),
          failure);
    }
    if (!arrived) {
      throw new LoraSideException(
          ErrorCode.DEADLINE_EXCEEDED,
          "the LoRA server did not answer for layer %d %s before the step's deadline"
              .formatted(layer, site),
          null);
    }
  }

  /** Waits, but looks up now and then: the shard may be known to be gone. */
  private boolean arrives(long value) {
    long left = LOOK_UP_NANOS;
    while (left > 0 && exchange.isOpen()) {
      long now = System.nanoTime();
      left = step.deadlineNanos() - now;
      if (ops.await(exchange.computed(), value, now + Math.min(left, LOOK_UP_NANOS))) {
        return true;
      }
    }
    return false;
  }

  private void add(LoraSite site, Tensor... outs) {
    List<LoraTarget> targets = site.targets();
    for (int i = 0; i < outs.length; i++) {
      LoraTarget target = targets.get(i);
      if (step.targets().contains(target)) {
        int[] into = exchange.spec().outRows(target) == 1 ? rows : routedRows;
        ops.scatterAdd(exchange.delta(target, rows.length), into, outs[i]);
      }
    }
  }
}
