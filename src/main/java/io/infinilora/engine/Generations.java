package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.scheduler.Scheduler;
import io.infinilora.scheduler.StepPlan;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.function.BooleanSupplier;

/**
 * The requests in flight. One that leaves, for whatever reason, gives its adapter back and is
 * counted, here and nowhere else. Event loop only.
 */
final class Generations {
  private final Scheduler scheduler;
  private final AdapterLeases leases;
  private final BooleanSupplier stepInFlight;
  private final EngineMetrics metrics;
  private final Map<String, Generation> byId = new HashMap<>();
  private final ServiceRate service = new ServiceRate(System.nanoTime());
  private boolean begun;

  Generations(
      Scheduler scheduler,
      AdapterLeases leases,
      BooleanSupplier stepInFlight,
      EngineMetrics metrics) {
    this.scheduler = scheduler;
    this.leases = leases;
    this.stepInFlight = stepInFlight;
    this.metrics = metrics;
  }

  /** Takes a request in that was admitted. */
  void add(Generation generation) {
    long now = System.nanoTime();
    begun = true;
    byId.put(generation.request().id(), generation);
    service.joined(now);
    generation.queued(metrics, now);
  }

  /** The request of an id; null if there is none. */
  Generation find(String id) {
    return byId.get(id);
  }

  boolean contains(Generation generation) {
    return byId.get(generation.request().id()) == generation;
  }

  boolean isEmpty() {
    return byId.isEmpty();
  }

  /** Whether there has ever been one. */
  boolean begun() {
    return begun;
  }

  /** All of them; a copy. */
  List<Generation> all() {
    return List.copyOf(byId.values());
  }

  /** The requests of a plan whose subscribers have not left. */
  List<Generation> of(StepPlan plan) {
    return plan.slices().stream()
        .map(slice -> byId.get(slice.sequence().id()))
        .filter(Objects::nonNull)
        .toList();
  }

  /** Those with an adapter. */
  List<Generation> users(AdapterId adapter) {
    return byId.values().stream()
        .filter(generation -> generation.adapter().equals(Optional.of(adapter)))
        .toList();
  }

  /** Whether one with this adapter computes, rather than waits. */
  boolean running(AdapterId adapter) {
    return byId.values().stream()
        .anyMatch(g -> g.runsNow() && g.adapter().equals(Optional.of(adapter)));
  }

  /** Counts those who were admitted to the batch, or preempted, since the last call. */
  void trackStates(long now) {
    byId.values().forEach(generation -> generation.trackState(metrics, now));
  }

  /** How long those who wait are likely to take. */
  Duration timeForWaiting() {
    return service.timeFor(scheduler.load().waiting(), System.nanoTime());
  }

  /** Takes a request out that the scheduler has ended, or will not be asked for any more. */
  void remove(Generation generation) {
    byId.remove(generation.request().id(), generation);
    service.left(generation.running(), System.nanoTime());
    generation.adapter().ifPresent(adapter -> leases.release(adapter, stepInFlight.getAsBoolean()));
    generation.left(metrics);
  }

  /** Takes a request out and has the scheduler forget it. */
  void abort(Generation generation) {
    remove(generation);
    scheduler.abort(generation.request().id());
  }

  /** The same, and its subscriber is told why. */
  void fail(Generation generation, Throwable cause) {
    abort(generation);
    generation.failed(cause);
  }
}
