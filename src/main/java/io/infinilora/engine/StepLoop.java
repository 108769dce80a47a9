package io.infinilora.engine;

import io.infinilora.backend.SampleResult;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.scheduler.Outcome;
import io.infinilora.scheduler.Scheduler;
import io.infinilora.scheduler.Sequence;
import io.infinilora.scheduler.StepPlan;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Consumer;
import java.util.function.Supplier;

/**
 * The loop of a base-model instance: plan a step, announce it to the LoRA side, have the driver
 * compute it, commit its tokens, plan again. Owns the requests in flight, and with the scheduler
 * all that decides on them; what becomes of a failed step is up to {@link StepFailures}. Event loop
 * only.
 */
final class StepLoop {
  private final LoraRuntime lora;
  private final Scheduler scheduler;
  private final StepDriver driver;
  private final Patience patience;
  private final EngineMetrics metrics;
  private final Consumer<EngineLoad> publish;
  private final AdapterLeases leases;
  private final Generations generations;
  private final Admission admission;
  private final StepFailures failures;

  /** Completes when no request is in flight; null as long as requests are let in. */
  private Promise<Void> drained;

  private boolean stopped;

  /**
   * A loop without requests.
   *
   * @param scheduler asks {@link #leases} which adapters are ready
   * @param fault why the device computes nothing any more, if so
   * @param timer runs tasks on the event loop
   * @param publish takes the load whenever it may have changed
   */
  StepLoop(
      ModelSpec model,
      LoraRuntime lora,
      Scheduler scheduler,
      StepDriver driver,
      Supplier<Optional<InfiniLoraException>> fault,
      Patience patience,
      AdapterLeases.Timer timer,
      EngineMetrics metrics,
      Consumer<EngineLoad> publish) {
    this.lora = lora;
    this.scheduler = scheduler;
    this.driver = driver;
    this.patience = patience;
    this.metrics = metrics;
    this.publish = publish;
    leases = new AdapterLeases(lora, timer, new LeaseEvents());
    generations = new Generations(scheduler, leases, driver::inFlight, metrics);
    admission = new Admission(model, patience.adapter(), lora, leases, scheduler, generations);
    failures = new StepFailures(generations, leases, fault, patience.retry(), timer, this::goOn);
  }

  /** The adapters of its requests. */
  AdapterLeases leases() {
    return leases;
  }

  /** Lets a request in; one that is refused has ended with that. */
  void begin(Generation generation) {
    try {
      if (drained != null) {
        throw shuttingDown();
      }
      admission.admit(generation);
    } catch (RuntimeException e) {
      generation.failed(e);
      return;
    }
    step();
  }

  private static InfiniLoraException shuttingDown() {
    return new InfiniLoraException(ErrorCode.UNAVAILABLE, "the server is shutting down");
  }

  /** The subscriber of a request has left, perhaps before it has begun. */
  void cancel(Generation generation) {
    if (generation.ended()) {
      return;
    }
    generation.cancelled();
    if (generations.contains(generation)) {
      generations.abort(generation);
      goOn();
    }
  }

  /** Computes steps that nobody asked for, as {@link WarmUpRun} says. */
  Future<Void> warmUp(SchedulerConfig config, int vocab, Duration budget) {
    Promise<Void> done = Promise.promise();
    new WarmUpRun(driver, lora, patience.step(), generations::begun)
        .start(config, vocab, budget)
        .onComplete(done)
        .onComplete(v -> goOn());
    return done.future();
  }

  /** Something has changed between steps. */
  private void goOn() {
    step();
    settle();
  }

  /** Starts the next step unless one is in flight or there is nothing to do. */
  private void step() {
    if (driver.inFlight() || stopped) {
      publishLoad(); // Requests came or left, though they wait for the step to end.
      return;
    }
    Optional<StepPlan> next = leases.plan(generations::running, scheduler::next);
    publishLoad();
    long now = System.nanoTime();
    generations.trackStates(now);
    if (next.isEmpty()) {
      return;
    }
    StepPlan plan = next.get();
    driver.begin();
    StepTask task;
    try {
      task =
          StepAssembler.assemble(plan, generations, lora, leases, now + patience.step().toNanos());
    } catch (RuntimeException e) {
      failed(plan, e);
      return;
    }
    driver.submit(
        task,
        () -> metrics.step(plan.slices().size(), plan.rows(), System.nanoTime() - now),
        results -> commit(plan, results),
        cause -> failed(plan, cause));
  }

  private void commit(StepPlan plan, List<SampleResult> results) {
    landed();
    leases.stepCompleted(plan.adapters());
    generations.of(plan).forEach(Generation::recovered);
    List<Outcome> outcomes =
        scheduler.complete(plan, results.stream().mapToInt(SampleResult::token).toArray());
    publishLoad();
    Map<Sequence, SampleResult> bySequence = new HashMap<>();
    for (int i = 0; i < results.size(); i++) {
      bySequence.put(plan.samples().get(i), results.get(i));
    }
    // The next step runs while this one's tokens are delivered.
    step();
    for (Outcome outcome : outcomes) {
      deliver(outcome, bySequence.get(outcome.sequence()));
    }
    settle();
  }

  private void deliver(Outcome outcome, SampleResult result) {
    Generation generation = generations.find(outcome.sequence().id());
    if (generation == null || generation.ended()) {
      return;
    }
    if (outcome.emitted()) {
      generation.token(outcome.index(), outcome.token(), result.logprobs());
    }
    if (outcome.finish() != null) {
      generations.remove(generation);
      generation.finished(outcome.finish());
    }
  }

  private void failed(StepPlan plan, Throwable cause) {
    landed();
    scheduler.rollback(plan);
    if (!stopped) {
      failures.stepFailed(plan, cause);
    }
    goOn();
  }

  private void landed() {
    driver.landed();
    leases.landed();
  }

  /** What the LoRA side tells of adapters that requests wait for. */
  private final class LeaseEvents implements AdapterLeases.Listener {
    @Override
    public void changed() {
      step();
    }

    @Override
    public void troubled(AdapterId adapter, InfiniLoraException cause) {
      failures.adapterTroubled(adapter, cause);
      step();
    }

    @Override
    public void failed(AdapterId adapter, InfiniLoraException cause) {
      failures.adapterFailed(adapter, cause);
      goOn();
    }
  }

  private void publishLoad() {
    publish.accept(scheduler.load());
  }

  /**
   * If nothing is left to do: the moment for integrity checks, and the end of a drain. The check of
   * every block is for tests: a small model on a large GPU has millions, and this is an event loop.
   */
  private void settle() {
    if (!driver.inFlight() && generations.isEmpty()) {
      scheduler.checkIdle();
      assert everyBlockIsAccountedFor();
      if (drained != null) {
        drained.tryComplete();
      }
    }
  }

  private boolean everyBlockIsAccountedFor() {
    scheduler.checkInvariants();
    return true;
  }

  /** Refuses new requests from now on; completes when those in flight have ended. */
  Future<Void> drain() {
    if (drained == null) {
      drained = Promise.promise();
    }
    Future<Void> ended = drained.future();
    settle();
    return ended;
  }

  /** Begins no further step; requests in flight fail, and new ones are refused. */
  void stop() {
    stopped = true;
    if (drained == null) {
      drained = Promise.promise();
    }
    InfiniLoraException gone = shuttingDown();
    // A step that lands later finds that nobody has blocks any more.
    generations.all().forEach(generation -> generations.fail(generation, gone));
  }
}
