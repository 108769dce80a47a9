package io.infinilora.fake;

import io.infinilora.metrics.EngineMetrics;
import java.util.Optional;
import java.util.concurrent.Semaphore;

/**
 * Holds the driver thread at the end of a step until the test lets it go on, so that a test knows
 * what the engine has done and what it has not. Passes all figures on.
 */
public final class StepGate implements EngineMetrics {
  private static final int NO_LIMIT = 1 << 30;

  private final EngineMetrics metrics;
  private final Semaphore steps = new Semaphore(NO_LIMIT);

  /** A gate that is open. */
  public StepGate(EngineMetrics metrics) {
    this.metrics = metrics;
  }

  /** Lets this many more steps end. */
  public void allow(int count) {
    steps.drainPermits();
    steps.release(count);
  }

  /** Lets all steps end. */
  public void open() {
    allow(NO_LIMIT);
  }

  @Override
  public void step(int sequences, int rows, long nanos) {
    metrics.step(sequences, rows, nanos);
    steps.acquireUninterruptibly();
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
