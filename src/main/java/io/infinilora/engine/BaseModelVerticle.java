package io.infinilora.engine;

import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.Engine;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TokenEvent;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.scheduler.Scheduler;
import io.smallrye.mutiny.Multi;
import io.smallrye.mutiny.subscription.BackPressureStrategy;
import io.smallrye.mutiny.subscription.MultiEmitter;
import io.vertx.core.Context;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.VerticleBase;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * One base-model instance: the engine that others call, from any thread. Its event loop owns the
 * scheduler and all requests, in a {@link StepLoop}; a driver thread executes one step at a time.
 */
public final class BaseModelVerticle extends VerticleBase implements Engine {
  private final String name;
  private final BaseModel model;
  private final SchedulerConfig config;
  private final int threads;
  private final Patience patience;
  private final LoraAttachment attach;
  private final EngineMetrics metrics;

  // Owned by the event loop.
  private final Scheduler scheduler;
  private DeviceDriver driver;
  private StepDriver stepDriver;
  private StepLoop steps;

  // Set by start, the context last of all.
  private volatile LoraRuntime lora;
  private volatile Context loop;

  private volatile EngineLoad load;
  private volatile boolean stopped;

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
    this.scheduler = new Scheduler(config, adapter -> steps.leases().state(adapter));
    this.load = scheduler.load();
  }

  @Override
  public Future<?> start() {
    driver = new DeviceDriver(name + "-driver");
    return attach
        .attach(vertx, this::onLoop, task -> driver.submit(task))
        .compose(this::attached)
        .recover(e -> closed(driver::close, e));
  }

  /** Ends what was begun, then fails. */
  private Future<Void> closed(Runnable close, Throwable cause) {
    return vertx
        .executeBlocking(
            () -> {
              close.run();
              return null;
            })
        .transform(done -> Future.failedFuture(cause));
  }

  private Future<Void> attached(LoraRuntime runtime) {
    try {
      openStream(runtime);
      return Future.succeededFuture();
    } catch (RuntimeException | Error e) {
      return closed(runtime::close, e);
    }
  }

  private void openStream(LoraRuntime runtime) {
    StepRunner runner =
        new StepRunner(
            model.transformer(),
            model.workspace(),
            model.cache(),
            model.backend().openStream(name, threads));
    stepDriver = new StepDriver(driver, runner, this::onLoop);
    steps =
        new StepLoop(
            model(),
            runtime,
            scheduler,
            stepDriver,
            () -> model.backend().fault(),
            patience,
            (millis, task) -> vertx.setTimer(millis, t -> task.run()),
            metrics,
            now -> load = now);
    lora = runtime;
    loop = context;
  }

  private void onLoop(Runnable task) {
    context.runOnContext(v -> task.run());
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
    return new FollowedAdmin(lora.admin(), this::onLoop);
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
              emitter.onTermination(() -> cancel(generation, target));
              target.runOnContext(v -> begin(generation, emitter));
            },
            BackPressureStrategy.BUFFER);
  }

  /** Once this has stopped there is nothing to cancel, and the event loop may be gone. */
  private void cancel(Generation generation, Context target) {
    if (!stopped) {
      target.runOnContext(v -> steps.cancel(generation));
    }
  }

  private void begin(Generation generation, MultiEmitter<? super TokenEvent> emitter) {
    if (!emitter.isCancelled()) {
      steps.begin(generation);
    }
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
    loop.runOnContext(v -> steps.warmUp(config, model().vocab(), budget).onComplete(done));
    return done.future();
  }

  /**
   * Refuses new requests and completes when those in flight have ended. Any thread.
   *
   * @return completes on the event loop
   */
  public Future<Void> drain() {
    Promise<Void> promise = Promise.promise();
    loop.runOnContext(v -> steps.drain().onComplete(promise));
    return promise.future();
  }

  /** Ends the driver; requests still in flight fail. */
  @Override
  public Future<?> stop() {
    if (steps == null) {
      return Future.succeededFuture();
    }
    stopped = true;
    steps.stop();
    return vertx
        .executeBlocking(
            () -> {
              stepDriver.close();
              return null;
            })
        .compose(
            v -> {
              // No step uses them any more, and the LoRA server is still there to be told.
              steps.leases().landed();
              return vertx.executeBlocking(
                  () -> {
                    lora.close();
                    return null;
                  });
            });
  }
}
