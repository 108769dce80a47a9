package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoadException;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.scheduler.StepPlan;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The fate of requests whose step failed or whose adapter is not to be had. What the base model
 * could not compute fails its requests. What the LoRA side could not is tried again: requests for
 * the base model alone simply go on, the others do when their adapters can, or fail after the
 * patience for that. Event loop only.
 */
final class StepFailures {
  private static final Logger log = LoggerFactory.getLogger(StepFailures.class);

  private final Generations generations;
  private final AdapterLeases leases;
  private final Supplier<Optional<InfiniLoraException>> fault;
  private final Duration retry;
  private final AdapterLeases.Timer timer;
  private final Runnable goOn;

  /**
   * For the requests of one instance.
   *
   * @param fault why the device computes nothing any more, if so
   * @param retry how long a request is tried again
   * @param goOn is run when requests have failed by themselves, so that others can go on
   */
  StepFailures(
      Generations generations,
      AdapterLeases leases,
      Supplier<Optional<InfiniLoraException>> fault,
      Duration retry,
      AdapterLeases.Timer timer,
      Runnable goOn) {
    this.generations = generations;
    this.leases = leases;
    this.fault = fault;
    this.retry = retry;
    this.timer = timer;
    this.goOn = goOn;
  }

  /** A step has failed, has landed and is rolled back. */
  void stepFailed(StepPlan plan, Throwable cause) {
    Optional<InfiniLoraException> lostDevice = fault.get();
    if (lostDevice.isPresent()) {
      log.error("a step of {} rows failed with its device", plan.rows(), cause);
      generations.of(plan).forEach(generation -> generations.fail(generation, lostDevice.get()));
    } else if (cause instanceof LoraSideException lost) {
      log.warn("a step of {} rows failed on the LoRA side and is tried again", plan.rows(), cause);
      leases.stepFailed(plan.adapters());
      generations.of(plan).stream()
          .filter(generation -> generation.adapter().isPresent())
          .forEach(generation -> troubled(generation, lost));
    } else if (cause instanceof AdapterLoadException load
        && plan.adapters().contains(load.adapter())) {
      log.warn("a step of {} rows waited for an adapter in vain", plan.rows(), cause);
      // All of them, also those that wait for their turn; the others of the step compute it again.
      adapterFailed(load.adapter(), load);
    } else if (cause instanceof UnusableLogitsException unusable) {
      unusable.samples().stream()
          .map(sample -> generations.find(plan.samples().get(sample).id()))
          .filter(Objects::nonNull)
          .forEach(generation -> unusable(generation, unusable));
    } else {
      log.error("a step of {} rows failed; its requests fail with it", plan.rows(), cause);
      Throwable reported =
          cause instanceof InfiniLoraException
              ? cause
              : new InfiniLoraException(ErrorCode.INTERNAL, "the step failed: " + cause, cause);
      generations.of(plan).forEach(generation -> generations.fail(generation, reported));
    }
  }

  /** The others of the step compute it again. */
  private void unusable(Generation generation, UnusableLogitsException cause) {
    InfiniLoraException failure = cause.failureOf(generation.adapter());
    log.warn("request {} fails: {}", generation.request().id(), failure.getMessage());
    generations.fail(generation, failure);
  }

  /** Whoever computes an adapter is gone or failed; another lease is asked for. */
  void adapterTroubled(AdapterId adapter, InfiniLoraException cause) {
    generations.users(adapter).forEach(generation -> troubled(generation, cause));
  }

  /** There will be no lease on an adapter. */
  void adapterFailed(AdapterId adapter, InfiniLoraException cause) {
    generations.users(adapter).forEach(generation -> generations.fail(generation, cause));
  }

  /** It gives up if its adapter does not work again in time. */
  private void troubled(Generation generation, InfiniLoraException cause) {
    if (generation.troubled(cause, System.nanoTime())) {
      timer.after(retry.toMillis() + 1, () -> giveUp(generation));
    }
  }

  private void giveUp(Generation generation) {
    if (!generation.ended() && generation.givesUp(System.nanoTime(), retry)) {
      generations.fail(generation, generation.trouble(retry));
      goOn.run();
    }
  }
}
