package io.infinilora.fake;

import io.infinilora.core.AdapterMemoryStats;
import io.infinilora.metrics.EngineMetrics;
import java.util.Optional;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * Holds the driver thread at the end of a step until the test lets it go on, so that a test knows
 * what the engine has done and what it has not. Passes all figures on.
 */
public final class StepGate implements EngineMetrics {
  private static final int NO_LIMIT = 1 << 30;

  private final EngineMetrics metrics;
  private final Semaphore steps = new Semaphore(NO_LIMIT);
  private final Semaphore held = new Semaphore(0);

  /** A gate that is open. */
  public StepGate(EngineMetrics metrics) {
    this.metrics = metrics;
  }

  /** Lets this many more steps end. */
  public void allow(int count) {
    steps.drainPermits();
    held.drainPermits();
    steps.release(count);
  }

  /** Waits until as many steps have ended and the driver thread is held at the end of one more. */
  public void awaitHeld() {
    try {
      if (!held.tryAcquire(1, TimeUnit.MINUTES)) {
        throw new IllegalStateException("no step came to the gate");
      }
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    }
  }

  /** Lets all steps end. */
  public void open() {
    allow(NO_LIMIT);
  }

  @Override
  public void step(int sequences, int rows, long nanos) {
    metrics.step(sequences, rows, nanos);
    if (!steps.tryAcquire()) {
      held.release();
      steps.acquireUninterruptibly();
    }
  }

  @Override
  public void watchMemory(String shard, Supplier<AdapterMemoryStats> stats) {
    metrics.watchMemory(shard, stats);
  }

  @Override
  public void queued(Optional<String> adapter) {
    metrics.queued(adapter);
  }

  @Override
  public void admitted(Optional<String> adapter, long waitNanos, boolean adapterResident) {
    metrics.admitted(adapter, waitNanos, adapterResident);
  }

  @Override
  public void prefixLookup(int promptTokens, int cachedTokens) {
    metrics.prefixLookup(promptTokens, cachedTokens);
  }

  @Override
  public void preempted(Optional<String> adapter) {
    metrics.preempted(adapter);
  }

  @Override
  public void abandoned(Optional<String> adapter) {
    metrics.abandoned(adapter);
  }

  @Override
  public void released(Optional<String> adapter) {
    metrics.released(adapter);
  }
}
