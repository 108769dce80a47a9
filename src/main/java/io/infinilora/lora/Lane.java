package io.infinilora.lora;

import io.infinilora.adapter.LayerClock;
import io.infinilora.adapter.LoraExecutor;
import io.infinilora.adapter.ResidentAdapters;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.LoraStep;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The layer requests of one base model, computed in order, site by site as its activations arrive.
 * A step that fails or misses its deadline fails alone. Driver thread only.
 */
final class Lane {
  private static final Logger log = LoggerFactory.getLogger(Lane.class);

  private final OpStream ops;
  private final ResidentAdapters residents;
  private final LayerClock clock;
  private final Deque<LoraLayerRequest> requests = new ArrayDeque<>();
  private final Deque<LoraSite> sites = new ArrayDeque<>();
  private LoraStep step;
  private LoraExecutor executor;

  Lane(OpStream ops, ResidentAdapters residents, LayerClock clock) {
    this.ops = ops;
    this.residents = residents;
    this.clock = clock;
  }

  void add(LoraLayerRequest request) {
    requests.add(request);
    if (requests.size() == 1) {
      enter(request);
    }
  }

  boolean isEmpty() {
    return requests.isEmpty();
  }

  /** Computes the next site if its activations are there; says whether anything was done. */
  boolean advance() {
    if (requests.isEmpty()) {
      return false;
    }
    LoraExchange exchange = step.exchange();
    if (!exchange.enter()) {
      requests.clear(); // The base has given up; what is in the exchange is not for this step.
      sites.clear();
      return true;
    }
    try {
      return advance(requests.peek(), exchange);
    } finally {
      exchange.leave();
    }
  }

  private boolean advance(LoraLayerRequest request, LoraExchange exchange) {
    try {
      if (exchange.failureOf(step.id()) != null || sites.isEmpty()) {
        leave(); // An earlier layer failed, as the base knows; or nothing of this one is here.
        return true;
      }
      LoraSite site = sites.peek();
      long value = exchange.value(step.id(), request.layer(), site);
      if (exchange.published().value() < value) {
        if (step.deadlineNanos() - System.nanoTime() > 0) {
          return false;
        }
        throw new InfiniLoraException(
            ErrorCode.DEADLINE_EXCEEDED,
            "activations of layer %d %s did not arrive in time".formatted(request.layer(), site));
      }
      exchange.courier().fetch(step, request.layer(), site, ops);
      compute(request.layer(), site);
      exchange.courier().deliver(step, request.layer(), site, ops);
      ops.release(exchange.computed(), value);
      sites.remove();
    } catch (RuntimeException | Error e) {
      log.warn("LoRA step {} failed in layer {}", step.id(), request.layer(), e);
      exchange.fail(step.id(), e);
    }
    if (sites.isEmpty()) {
      leave();
    }
    return true;
  }

  /** Waits until the next site's activations are there, or until a time. */
  void await(long untilNanos) {
    if (!requests.isEmpty() && !sites.isEmpty()) {
      LoraExchange exchange = step.exchange();
      try {
        ops.await(
            exchange.published(),
            exchange.value(step.id(), requests.peek().layer(), sites.peek()),
            untilNanos);
      } catch (RuntimeException e) {
        fail(exchange, e); // The device is lost.
      }
    }
  }

  private void fail(LoraExchange exchange, RuntimeException cause) {
    if (exchange.enter()) {
      log.warn("LoRA step {} failed", step.id(), cause);
      exchange.fail(step.id(), cause);
      exchange.leave();
    }
  }

  private void leave() {
    requests.remove();
    sites.clear();
    if (!requests.isEmpty()) {
      enter(requests.peek());
    }
  }

  private void enter(LoraLayerRequest request) {
    if (step != request.step()) {
      step = request.step();
      executor = null;
    }
    clock.layer(step.id(), request.layer());
    for (LoraSite site : step.sites()) {
      if (step.exchange().holds(request.layer(), site)) {
        sites.add(site);
      }
    }
  }

  private void compute(int layer, LoraSite site) {
    if (executor == null) {
      executor =
          new LoraExecutor(
              residents.require(step.slots()), step.groups(), ops, step.deadlineNanos());
    }
    LoraExchange exchange = step.exchange();
    Tensor[] deltas = deltas(site);
    Tensor x = exchange.activations(site, step.rows());
    if (exchange.spec().routed(site)) {
      executor.addRouted(layer, site, x, exchange.routing(step.rows()), exchange.terms(), deltas);
    } else {
      executor.add(layer, site, x, deltas);
    }
  }

  /** The zeroed delta buffers of a site; null for targets that no adapter of the step has. */
  private Tensor[] deltas(LoraSite site) {
    List<LoraTarget> targets = site.targets();
    Tensor[] deltas = new Tensor[targets.size()];
    for (int i = 0; i < deltas.length; i++) {
      if (step.targets().contains(targets.get(i))) {
        deltas[i] = step.exchange().delta(targets.get(i), step.rows());
        ops.zero(deltas[i]);
      }
    }
    return deltas;
  }
}
