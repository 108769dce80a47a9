package io.infinilora.engine;

import io.infinilora.config.SchedulerConfig;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import java.time.Duration;
import java.util.function.BooleanSupplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Has a {@link WarmUp} computed, step by step, until it gains nothing more, its time is over, or a
 * request comes. Event loop only.
 */
final class WarmUpRun {
  private static final Logger log = LoggerFactory.getLogger(WarmUpRun.class);

  private final StepDriver driver;
  private final LoraRuntime lora;
  private final Duration patience;
  private final BooleanSupplier requested;
  private final Promise<Void> done = Promise.promise();

  /**
   * A run that has not begun.
   *
   * @param patience how long a step may take
   * @param requested whether there has been a request
   */
  WarmUpRun(StepDriver driver, LoraRuntime lora, Duration patience, BooleanSupplier requested) {
    this.driver = driver;
    this.lora = lora;
    this.patience = patience;
    this.requested = requested;
  }

  /**
   * Begins, once.
   *
   * @param budget time after which no further step is begun
   * @return fails if a step for the base model does; no step is in flight then
   */
  Future<Void> start(SchedulerConfig config, int vocab, Duration budget) {
    WarmUpLeases adapters = new WarmUpLeases(lora, budget);
    done.future().onComplete(v -> adapters.release());
    adapters
        .slots()
        .onComplete(
            (slots, never) -> next(new WarmUp(config, vocab, slots, budget, System.nanoTime())));
    return done.future();
  }

  private void next(WarmUp plan) {
    long now = System.nanoTime();
    if (requested.getAsBoolean() || driver.inFlight() || plan.done(now)) {
      done.complete();
      return;
    }
    driver.begin();
    StepTask task;
    try {
      task = plan.next(lora, now + patience.toNanos());
    } catch (RuntimeException e) {
      failed(plan, e);
      return;
    }
    driver.submit(
        task,
        () -> {},
        results -> {
          driver.landed();
          next(plan);
        },
        cause -> failed(plan, cause));
  }

  private void failed(WarmUp plan, Throwable cause) {
    driver.landed();
    if (plan.hasAdapters()) {
      log.warn("the warm-up goes on without adapters, since a step with some has failed", cause);
      plan.withoutAdapters();
      next(plan);
    } else {
      done.fail(cause);
    }
  }
}
