package io.infinilora.engine;

import io.infinilora.backend.SampleResult;
import java.util.List;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/**
 * The way of steps from the event loop to the driver thread and of their results back: one step is
 * in flight at most. Event loop only, except where noted.
 */
final class StepDriver {
  private final DeviceDriver driver;
  private final StepRunner runner;
  private final Executor loop;
  private boolean inFlight;

  /**
   * A way with nothing on it.
   *
   * @param driver belongs to this one from now on
   * @param loop runs a task on the event loop
   */
  StepDriver(DeviceDriver driver, StepRunner runner, Executor loop) {
    this.driver = driver;
    this.runner = runner;
    this.loop = loop;
  }

  /** Whether a step is being made or computed. */
  boolean inFlight() {
    return inFlight;
  }

  /** A step is being made; {@link #submit} or {@link #landed} follows. */
  void begin() {
    inFlight = true;
  }

  /**
   * Computes the step that was begun. It stays in flight until somebody says that it has
   * {@linkplain #landed landed}.
   *
   * @param computed told on the driver thread, before it takes other work, of a success
   * @param results told on the event loop of a success
   * @param failure told on the event loop of a failure, also one of {@code computed}
   */
  void submit(
      StepTask task,
      Runnable computed,
      Consumer<List<SampleResult>> results,
      Consumer<Throwable> failure) {
    driver.submit(() -> run(task, computed, results, failure));
  }

  /** Driver thread. */
  private void run(
      StepTask task,
      Runnable computed,
      Consumer<List<SampleResult>> results,
      Consumer<Throwable> failure) {
    List<SampleResult> sampled;
    try {
      sampled = runner.run(task);
      computed.run();
    } catch (RuntimeException | Error e) {
      loop.execute(() -> failure.accept(e));
      return;
    }
    loop.execute(() -> results.accept(sampled));
  }

  /** No step is in flight any more. */
  void landed() {
    inFlight = false;
  }

  /** Ends the thread after the step in flight, and its stream. Blocks; not for event loops. */
  void close() {
    driver.close();
    runner.close();
  }
}
