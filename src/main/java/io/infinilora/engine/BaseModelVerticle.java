package io.infinilora.engine;

import io.infinilora.backend.SampleResult;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.Engine;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.OverloadedException;
import io.infinilora.core.TokenEvent;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.scheduler.Outcome;
import io.infinilora.scheduler.Scheduler;
import io.infinilora.scheduler.Sequence;
import io.infinilora.scheduler.StepPlan;
import io.smallrye.mutiny.Multi;
import io.smallrye.mutiny.subscription.BackPressureStrategy;
import io.smallrye.mutiny.subscription.MultiEmitter;
import io.vertx.core.Context;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.VerticleBase;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.stream.Collectors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One base-model instance. Its event loop owns the scheduler and all requests; a driver thread
 * executes one step at a time. The loop: plan, announce to the LoRA side, run on the driver, commit
 * the tokens, plan again.
 */
public final class BaseModelVerticle extends VerticleBase implements Engine {
  private static final Logger log = LoggerFactory.getLogger(BaseModelVerticle.class);

  private final String name;
  private final BaseModel model;
  private final SchedulerConfig config;
  private final int threads;
  private final Patience patience;
  private final LoraAttachment attach;
  private final EngineMetrics metrics;

  // Set by start, before anything else runs.
  private volatile Context loop;
  private volatile LoraRuntime lora;
  private AdapterLeases leases;
  private DeviceDriver driver;
  private StepRunner runner;

  // Owned by the event loop.
  private final Scheduler scheduler;
  private final Map<String, Generation> generations = new HashMap<>();
  private final ServiceRate service = new ServiceRate(System.nanoTime());
  private boolean stepInFlight;
  private boolean requested;
  private Promise<Void> drained;

  private volatile EngineLoad load;

  /**
   * An instance that starts when deployed.
   *
   * @param name for threads and logs
   * @param threads CPU threads of a step
   * @param attach finds the LoRA side; called once, on the event loop
   */
  public BaseModelVerticle(
      String name,
      BaseModel model,
      SchedulerConfig config,
      int threads,
      Patience patience,
      LoraAttachment attach,
      EngineMetrics metrics) {
    this.name = Objects.requireNonNull(name);
    this.model = Objects.requireNonNull(model);
    this.config = config;
    this.threads = threads;
    this.patience = patience;
    this.attach = attach;
    this.metrics = metrics;
    this.scheduler = new Scheduler(config, adapter -> leases.state(adapter));
    this.load = scheduler.load();
  }

  @Override
  public Future<?> start() {
    driver = new DeviceDriver(name + "-driver");
    return attach
        .attach(vertx, task -> context.runOnContext(v -> task.run()), task -> driver.submit(task))
        .onFailure(e -> driver.close())
        .onSuccess(
            runtime -> {
              lora = runtime;
              leases = new AdapterLeases(runtime, this::after, new LeaseEvents());
              runner =
                  new StepRunner(
                      model.transformer(),
                      model.workspace(),
                      model.cache(),
                      model.backend().openStream(name, threads));
              loop = context;
            });
  }

  @Override
  public ModelSpec model() {
    return model.transformer().spec();
  }

  @Override
  public int contextLength() {
    return scheduler.contextLength();
  }

  @Override
  public List<AdapterId> adapters() {
    LoraRuntime runtime = lora;
    return runtime == null ? List.of() : runtime.adapters();
  }

  @Override
  public Optional<AdapterId> adapter(String adapterName) {
    LoraRuntime runtime = lora;
    return runtime == null ? Optional.empty() : runtime.find(adapterName);
  }

  /**
   * Changes the adapters of this instance's LoRA side. Any thread, once deployed; answers come on
   * the event loop, after {@link #adapters} shows the change.
   */
  public AdapterAdmin adapterAdmin() {
    return new FollowedAdmin(lora.admin(), task -> loop.runOnContext(v -> task.run()));
  }

  @Override
  public EngineLoad load() {
    return load;
  }

  @Override
  public Multi<TokenEvent> generate(GenerateRequest request) {
    return generate(request, null);
  }

  /**
   * Like {@link #generate(GenerateRequest)}, with somebody who sees the logits of every prompt
   * position.
   *
   * @param observer called on the driver thread; the request should have {@code promptLogprobs}
   *     set, so that no position is skipped by prefix reuse
   */
  public Multi<TokenEvent> generate(GenerateRequest request, PromptObserver observer) {
    return Multi.createFrom()
        .emitter(
            emitter -> {
              Context target = loop;
              if (target == null) {
                emitter.fail(
                    new InfiniLoraException(ErrorCode.UNAVAILABLE, "the model is still loading"));
                return;
              }
              Generation generation = new Generation(request, emitter, observer);
              emitter.onTermination(() -> target.runOnContext(v -> cancel(generation)));
              target.runOnContext(v -> begin(generation, emitter));
            },
            BackPressureStrategy.BUFFER);
  }

  private void begin(Generation generation, MultiEmitter<? super TokenEvent> emitter) {
    if (emitter.isCancelled()) {
      return;
    }
    GenerateRequest request = generation.request();
    try {
      admit(generation, request);
    } catch (RuntimeException e) {
      generation.failed(withRetryTime(e));
      return;
    }
    long now = System.nanoTime();
    requested = true;
    generations.put(request.id(), generation);
    service.joined(now);
    generation.queued(metrics, now);
    step();
  }

  private void admit(Generation generation, GenerateRequest request) {
    if (drained != null) {
      throw new InfiniLoraException(ErrorCode.UNAVAILABLE, "the server is shutting down");
    }
    if (generations.containsKey(request.id())) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST,
          "a request with id %s is in flight already".formatted(request.id()));
    }
    checkTokens(request);
    Optional<AdapterId> adapter = request.adapter().map(name -> require(name, request));
    Sequence sequence =
        new Sequence(request, adapter, Set.copyOf(model.transformer().spec().eosTokens()));
    boolean resident =
        adapter.isEmpty() || leases.acquire(adapter.get(), patience.adapter().toNanos());
    try {
      scheduler.add(sequence);
    } catch (RuntimeException e) {
      adapter.ifPresent(id -> leases.release(id, false));
      throw e;
    }
    generation.admitted(sequence, resident);
  }

  /** Tells whom a full queue refused how long the queue is likely to take. */
  private RuntimeException withRetryTime(RuntimeException refusal) {
    return refusal instanceof InfiniLoraException e && e.code() == ErrorCode.OVERLOADED
        ? new OverloadedException(
            e.getMessage(), service.timeFor(scheduler.load().waiting(), System.nanoTime()))
        : refusal;
  }

  /** The generation that the request was started with, or the current one. */
  private AdapterId require(String adapterName, GenerateRequest request) {
    Optional<AdapterId> current = lora.find(adapterName);
    Optional<AdapterId> begun = request.started().flatMap(TokenEvent.Started::adapter);
    if (begun.isPresent()) {
      if (begun.equals(current) || leases.holds(begun.get())) {
        return begun.get();
      }
      throw new InfiniLoraException(
          ErrorCode.CONFLICT,
          "adapter %s, which the generation was started with, %s"
              .formatted(
                  begun.get(),
                  current.map(id -> "has been replaced by " + id).orElse("has been unloaded")));
    }
    return current.orElseThrow(
        () ->
            new InfiniLoraException(
                ErrorCode.MODEL_NOT_FOUND, "there is no adapter named %s".formatted(adapterName)));
  }

  /** An id outside the vocabulary would fail the whole step, so it must not get that far. */
  private void checkTokens(GenerateRequest request) {
    int vocab = model.transformer().spec().vocab();
    checkTokens("prompt", request.prompt(), vocab);
    checkTokens("generated", request.generated(), vocab);
    for (int token : request.sampling().logitBias().keySet()) {
      if (token < 0 || token >= vocab) {
        throw new InfiniLoraException(
            ErrorCode.INVALID_REQUEST,
            "logit_bias token %d is outside the vocabulary of %d".formatted(token, vocab));
      }
    }
  }

  private static void checkTokens(String what, int[] tokens, int vocab) {
    for (int i = 0; i < tokens.length; i++) {
      if (tokens[i] < 0 || tokens[i] >= vocab) {
        throw new InfiniLoraException(
            ErrorCode.INVALID_REQUEST,
            "%s token %d at index %d is outside the vocabulary of %d"
                .formatted(what, tokens[i], i, vocab));
      }
    }
  }

  private void cancel(Generation generation) {
    if (generation.ended()) {
      return;
    }
    generation.cancelled();
    remove(generation);
    scheduler.abort(generation.request().id());
    step();
    settle();
  }

  /**
   * Computes on random tokens until that does not get faster any more, so that the first request
   * meets compiled code. Leaves neither keys and values nor metrics behind, and ends early if a
   * request comes; does nothing after the first request. Any thread, once deployed.
   *
   * @param budget time after which no further step is begun; zero for none
   * @return completes on the event loop; fails if a step for the base model does
   */
  public Future<Void> warmUp(Duration budget) {
    Promise<Void> done = Promise.promise();
    loop.runOnContext(v -> warmUp(budget, done));
    return done.future();
  }

  private void warmUp(Duration budget, Promise<Void> done) {
    WarmUpLeases adapters = new WarmUpLeases(lora, budget);
    done.future().onComplete(v -> adapters.release());
    adapters
        .slots()
        .onComplete(
            (slots, never) ->
                warmUp(
                    new WarmUp(config, model().vocab(), slots, budget, System.nanoTime()), done));
  }

  private void warmUp(WarmUp plan, Promise<Void> done) {
    long now = System.nanoTime();
    if (requested || stepInFlight || plan.done(now)) {
      done.complete();
      step();
      settle();
      return;
    }
    stepInFlight = true;
    StepTask task;
    try {
      task = plan.next(lora, now + patience.step().toNanos());
    } catch (RuntimeException e) {
      warmedUp(plan, done, e);
      return;
    }
    driver.submit(
        () -> {
          Throwable failure = null;
          try {
            runner.run(task);
          } catch (RuntimeException | Error e) {
            failure = e;
          }
          Throwable cause = failure;
          loop.runOnContext(v -> warmedUp(plan, done, cause));
        });
  }

  private void warmedUp(WarmUp plan, Promise<Void> done, Throwable failure) {
    stepInFlight = false;
    if (failure == null) {
      warmUp(plan, done);
    } else if (plan.hasAdapters()) {
      log.warn("the warm-up goes on without adapters, since a step with some has failed", failure);
      plan.withoutAdapters();
      warmUp(plan, done);
    } else {
      done.fail(failure);
      step();
      settle();
    }
  }

  /** Starts the next step unless one is in flight or there is nothing to do. */
  private void step() {
    if (stepInFlight) {
      publishLoad(); // Requests came or left, though they wait for the step to end.
      return;
    }
    Optional<StepPlan> next = leases.plan(this::running, scheduler::next);
    publishLoad();
    long now = System.nanoTime();
    generations.values().forEach(g -> g.trackState(metrics, now));
    if (next.isEmpty()) {
      return;
    }
    StepPlan plan = next.get();
    stepInFlight = true;
    StepTask task;
    try {
      task =
          StepAssembler.assemble(plan, generations, lora, leases, now + patience.step().toNanos());
    } catch (RuntimeException e) {
      failed(plan, e);
      return;
    }
    driver.submit(() -> run(plan, task, now));
  }

  /** Driver thread. */
  private void run(StepPlan plan, StepTask task, long started) {
    List<SampleResult> results;
    try {
      results = runner.run(task);
    } catch (RuntimeException | Error e) {
      loop.runOnContext(v -> failed(plan, e));
      return;
    }
    metrics.step(plan.slices().size(), plan.rows(), System.nanoTime() - started);
    loop.runOnContext(v -> commit(plan, results));
  }

  private void commit(StepPlan plan, List<SampleResult> results) {
    landed();
    leases.stepCompleted(adapters(plan));
    generations(plan).forEach(Generation::recovered);
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
    Generation generation = generations.get(outcome.sequence().id());
    if (generation == null || generation.ended()) {
      return;
    }
    if (outcome.emitted()) {
      generation.token(outcome.index(), outcome.token(), result.logprobs());
    }
    if (outcome.finish() != null) {
      remove(generation);
      generation.finished(outcome.finish());
    }
  }

  private void failed(StepPlan plan, Throwable cause) {
    landed();
    scheduler.rollback(plan);
    Optional<InfiniLoraException> fault = model.backend().fault();
    if (fault.isPresent()) {
      log.error("a step of {} rows failed with its device", plan.rows(), cause);
      failRequests(plan, fault.get());
    } else if (cause instanceof LoraSideException lost) {
      retry(plan, lost);
    } else {
      log.error("a step of {} rows failed; its requests fail with it", plan.rows(), cause);
      failRequests(plan, cause);
    }
    step();
    settle();
  }

  /** Requests for the base model alone simply go on; the others do when their adapters can. */
  private void retry(StepPlan plan, LoraSideException cause) {
    log.warn("a step of {} rows failed on the LoRA side and is tried again", plan.rows(), cause);
    Set<AdapterId> adapters = adapters(plan);
    leases.stepFailed(adapters);
    generations(plan).stream()
        .filter(generation -> generation.adapter().isPresent())
        .forEach(generation -> troubled(generation, cause));
  }

  /** It gives up if its adapter does not work again in time. */
  private void troubled(Generation generation, InfiniLoraException cause) {
    if (generation.troubled(cause, System.nanoTime())) {
      after(
          patience.retry().toMillis() + 1,
          () -> {
            if (!generation.ended() && generation.givesUp(System.nanoTime(), patience.retry())) {
              fail(generation, generation.trouble(patience.retry()));
              step();
              settle();
            }
          });
    }
  }

  private void after(long millis, Runnable task) {
    vertx.setTimer(millis, t -> task.run());
  }

  private Set<AdapterId> adapters(StepPlan plan) {
    return plan.slices().stream()
        .flatMap(slice -> slice.sequence().adapter().stream())
        .collect(Collectors.toUnmodifiableSet());
  }

  /** The requests of a plan whose subscribers have not left. */
  private List<Generation> generations(StepPlan plan) {
    return plan.slices().stream()
        .map(slice -> generations.get(slice.sequence().id()))
        .filter(Objects::nonNull)
        .toList();
  }

  private void failRequests(StepPlan plan, Throwable cause) {
    Throwable reported =
        cause instanceof InfiniLoraException
            ? cause
            : new InfiniLoraException(ErrorCode.INTERNAL, "the step failed: " + cause, cause);
    generations(plan).forEach(generation -> fail(generation, reported));
  }

  private void fail(Generation generation, Throwable cause) {
    remove(generation);
    scheduler.abort(generation.request().id());
    generation.failed(cause);
  }

  private boolean running(AdapterId adapter) {
    return generations.values().stream()
        .anyMatch(g -> g.runsNow() && g.adapter().equals(Optional.of(adapter)));
  }

  private void landed() {
    stepInFlight = false;
    leases.landed();
  }

  private void remove(Generation generation) {
    generations.remove(generation.request().id(), generation);
    service.left(generation.running(), System.nanoTime());
    generation.adapter().ifPresent(adapter -> leases.release(adapter, stepInFlight));
    generation.left(metrics);
  }

  /** What the LoRA side tells of adapters that requests wait for. */
  private final class LeaseEvents implements AdapterLeases.Listener {
    @Override
    public void changed() {
      step();
    }

    @Override
    public void troubled(AdapterId adapter, InfiniLoraException cause) {
      users(adapter).forEach(generation -> BaseModelVerticle.this.troubled(generation, cause));
      step();
    }

    @Override
    public void failed(AdapterId adapter, InfiniLoraException cause) {
      users(adapter).forEach(generation -> fail(generation, cause));
      step();
      settle();
    }

    private List<Generation> users(AdapterId adapter) {
      return generations.values().stream()
          .filter(generation -> generation.adapter().equals(Optional.of(adapter)))
          .toList();
    }
  }

  private void publishLoad() {
    load = scheduler.load();
  }

  /** If nothing is left to do: the moment for integrity checks, and the end of a drain. */
  private void settle() {
    if (!stepInFlight && generations.isEmpty()) {
      scheduler.checkInvariants();
      if (drained != null) {
        drained.tryComplete();
      }
    }
  }

  /**
   * Refuses new requests and completes when those in flight have ended. Any thread.
   *
   * @return completes on the event loop
   */
  public Future<Void> drain() {
    Promise<Void> promise = Promise.promise();
    loop.runOnContext(
        v -> {
          if (drained == null) {
            drained = promise;
          } else {
            drained.future().onComplete(promise);
          }
          settle();
        });
    return promise.future();
  }

  /** Ends the driver; requests still in flight fail. */
  @Override
  public Future<?> stop() {
    InfiniLoraException gone =
        new InfiniLoraException(ErrorCode.UNAVAILABLE, "the server is shutting down");
    for (Generation generation : List.copyOf(generations.values())) {
      remove(generation);
      generation.failed(gone);
    }
    if (driver == null) {
      return Future.succeededFuture();
    }
    return vertx
        .executeBlocking(
            () -> {
              driver.close();
              runner.close();
              return null;
            })
        .compose(
            v -> {
              // No step uses them any more, and the LoRA server is still there to be told.
              leases.landed();
              return vertx.executeBlocking(
                  () -> {
                    lora.close();
                    return null;
                  });
            });
  }
}
