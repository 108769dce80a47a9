package io.infinilora.lora;

import io.infinilora.adapter.LayerClock;
import io.infinilora.adapter.ResidentAdapters;
import io.infinilora.backend.OpStream;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.LoraStep;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The thread that computes deltas. Each base model has a {@link Lane}: its layer requests in order.
 * The thread takes turns between the lanes whose activations are there, so a base that is late or
 * gone delays nobody else.
 */
final class LoraDriver implements AutoCloseable {
  private static final Logger log = LoggerFactory.getLogger(LoraDriver.class);

  /** How long it waits for one lane before it looks at the others and at new requests. */
  private static final long SLICE_NANOS = 200_000;

  private final OpStream ops;
  private final ResidentAdapters residents;
  private final LayerClock clock;
  private final BlockingQueue<Runnable> queue = new LinkedBlockingQueue<>();
  private final Thread thread;
  private volatile boolean closed;

  /** Driver thread only: lanes with work. */
  private final Map<LoraExchange, Lane> active = new LinkedHashMap<>();

  /**
   * Starts the thread.
   *
   * @param clock is told how long layers take
   */
  LoraDriver(String name, OpStream ops, ResidentAdapters residents, LayerClock clock) {
    this.ops = ops;
    this.residents = residents;
    this.clock = clock;
    thread = Thread.ofPlatform().name(name).daemon().start(this::run);
  }

  /** Queues a request; any thread, never blocks. */
  void submit(LoraLayerRequest request) {
    queue.add(
        () ->
            active
                .computeIfAbsent(request.step().exchange(), e -> new Lane(ops, residents, clock))
                .add(request));
  }

  /** Lets the base of a step see why it will not be computed; any thread, never blocks. */
  void refuse(LoraStep step, InfiniLoraException cause) {
    queue.add(
        () -> {
          LoraExchange exchange = step.exchange();
          if (exchange.enter()) {
            exchange.fail(step.id(), cause);
            exchange.leave();
          }
        });
  }

  /** Runs a task between two sites; any thread, never blocks. */
  void atSafePoint(Runnable task) {
    queue.add(task);
  }

  private void run() {
    while (!closed) {
      try {
        Runnable next = active.isEmpty() ? queue.take() : queue.poll();
        for (; next != null; next = queue.poll()) {
          next.run();
        }
      } catch (InterruptedException e) {
        break; // close() interrupts.
      } catch (RuntimeException | Error e) {
        log.error("a task of the LoRA driver failed", e);
      }
      takeTurns();
    }
    ops.close();
  }

  private void takeTurns() {
    boolean progress = false;
    List<LoraExchange> idle = new ArrayList<>(0);
    for (Map.Entry<LoraExchange, Lane> entry : active.entrySet()) {
      Lane lane = entry.getValue();
      progress |= lane.advance();
      if (lane.isEmpty()) {
        idle.add(entry.getKey());
      }
    }
    idle.forEach(active::remove);
    if (!progress && !active.isEmpty()) {
      long patience = SLICE_NANOS / active.size();
      active.values().forEach(lane -> lane.await(System.nanoTime() + patience));
    }
  }

  /**
   * Stops after the site at hand. Requests in the queue are not answered: their bases learn that
   * the shard has ended, or their deadlines fire.
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
