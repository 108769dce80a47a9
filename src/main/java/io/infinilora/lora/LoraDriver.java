package io.infinilora.lora;

import io.infinilora.adapter.AdapterGroups;
import io.infinilora.adapter.LoraExecutor;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.LoraStep;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The thread that computes deltas: takes layer requests in order, waits for each site's activations
 * and answers with deltas and a signal. A request that fails or misses its deadline fails its own
 * step only.
 */
final class LoraDriver implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(LoraDriver.class);

  private final OpStream ops;
  private final LoraExecutor executor;
  private final BlockingQueue<LoraLayerRequest> queue = new LinkedBlockingQueue<>();
  private final Thread thread;
  private volatile boolean closed;

  /** Starts the thread. */
  LoraDriver(String name, OpStream ops, LoraExecutor executor) {
    this.ops = ops;
    this.executor = executor;
    thread = Thread.ofPlatform().name(name).daemon().start(this::run);
  }

  /** Queues a request; any thread, never blocks. */
  void submit(LoraLayerRequest request) {
    queue.add(request);
  }

  private void run() {
    while (!closed) {
      LoraLayerRequest request;
      try {
        request = queue.take();
      } catch (InterruptedException e) {
        break; // close() interrupts.
      }
      LoraStep step = request.step();
      if (step.exchange().failureOf(step.id()) != null) {
        continue; // An earlier layer failed; the base knows.
      }
      try {
        compute(step, request.layer());
      } catch (RuntimeException | Error e) {
        log.warn("LoRA step {} failed in layer {}", step.id(), request.layer(), e);
        step.exchange().fail(step.id(), e);
      }
    }
    ops.close();
  }

  private void compute(LoraStep step, int layer) {
    LoraExchange exchange = step.exchange();
    AdapterGroups groups = new AdapterGroups(step.groups(), step.slots());
    for (LoraSite site : step.sites()) {
      long value = exchange.value(step.id(), layer, site);
      if (!ops.await(exchange.published(), value, step.deadlineNanos())) {
        throw new InfiniLoraException(
            ErrorCode.DEADLINE_EXCEEDED,
            "activations of layer %d %s did not arrive in time".formatted(layer, site));
      }
      Tensor[] deltas = deltas(step, site);
      Tensor x = exchange.activations(site, step.rows());
      if (exchange.spec().routed(site)) {
        executor.addRouted(groups, layer, site, x, exchange.routing(step.rows()), ops, deltas);
      } else {
        executor.add(groups, layer, site, x, ops, deltas);
      }
      ops.release(exchange.computed(), value);
    }
  }

  /** The zeroed delta buffers of a site; null for targets that no adapter of the step has. */
  private Tensor[] deltas(LoraStep step, LoraSite site) {
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

  /**
   * Stops after the request at hand. Requests in the queue are not answered: their bases' deadlines
   * fire.
   */
  @Override
  public void close() {
    closed = true;
    thread.interrupt();
    try {
      thread.join();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
    }
  }
}
