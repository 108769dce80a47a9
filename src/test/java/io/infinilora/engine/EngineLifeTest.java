package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.smallrye.mutiny.subscription.MultiSubscriber;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** The base model's engine before its first step and after its last. */
class EngineLifeTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final SchedulerConfig LIMITS =
      new SchedulerConfig(2, 8, 64, 16, 32, 16, 128, true);

  private final EventLoopWatch watch = new EventLoopWatch();
  private final Vertx vertx = watch.vertx();
  private final List<Throwable> uncaught = new CopyOnWriteArrayList<>();
  private final Checkpoint checkpoint = Checkpoints.open(MODEL);
  private final Backend backend = new CpuBackend();

  /** The LoRA sides that were closed. */
  private final List<LoraRuntime> closed = new CopyOnWriteArrayList<>();

  private BaseModelVerticle engine(Backend device) {
    return engine(device, (v, loop, driver) -> v.timer(1).map(t -> watched()));
  }

  private BaseModelVerticle engine(Backend device, LoraAttachment attachment) {
    vertx.exceptionHandler(uncaught::add);
    return new BaseModelVerticle(
        "base",
        BaseModel.allocate(TransformerLoader.load(checkpoint, backend), LIMITS, device),
        LIMITS,
        1,
        new Patience(Duration.ofMinutes(1), Duration.ofMinutes(1), Duration.ofMinutes(1)),
        attachment,
        EngineMetrics.NONE);
  }

  @AfterEach
  void stop() {
    await(vertx.close());
    backend.close();
    checkpoint.close();
    watch.assertSilent();
    assertThat(uncaught).isEmpty();
  }

  private static GenerateRequest request(String id) {
    return new GenerateRequest(
        id, new int[] {3, 4, 5}, Optional.empty(), SamplingParams.greedy(4).ignoringEos());
  }

  private static List<TokenEvent> answer(BaseModelVerticle engine, String id) {
    return engine.generate(request(id)).collect().asList().await().atMost(Duration.ofMinutes(1));
  }

  @Test
  void whoLeavesBeforeTheRequestBeginsLeavesNothing() {
    BaseModelVerticle engine = engine(backend);
    await(vertx.deployVerticle(engine));

    engine.generate(request("early")).subscribe(new Leaver());

    assertThat(answer(engine, "early")).isNotEmpty(); // The name is free.
    await(engine.drain());
    assertThat(engine.load()).isEqualTo(new EngineLoad(0, 0, 0, LIMITS.kvBlocks(), 0));
  }

  @Test
  void anEngineThatHasEndedRefusesRequests() {
    BaseModelVerticle engine = engine(backend);
    String deployed = await(vertx.deployVerticle(engine));
    assertThat(answer(engine, "before")).isNotEmpty();

    await(vertx.undeploy(deployed));

    assertThatThrownBy(() -> answer(engine, "after"))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.UNAVAILABLE));
  }

  @Test
  void aDeviceThatOpensNoStreamFailsTheDeployment() {
    BaseModelVerticle engine = engine(withoutStreams());

    assertThatThrownBy(() -> await(vertx.deployVerticle(engine))).hasMessageContaining("no stream");
    assertThat(closed).hasSize(1); // The LoRA side was there already.
    assertThat(engine.adapters()).isEmpty();
  }

  /** A LoRA side that is not there may have left work to the driver; see {@link EventLoopWatch}. */
  @Test
  void nobodyWaitsOnTheEventLoopForTheDriverOfAnEngineThatDoesNotStart() {
    LoraAttachment fails =
        (v, loop, driver) -> {
          Promise<LoraRuntime> runtime = Promise.promise();
          driver.accept(
              () -> {
                loop.execute(() -> runtime.fail("no LoRA side"));
                LockSupport.parkNanos(TimeUnit.SECONDS.toNanos(1));
              });
          return runtime.future();
        };

    assertThatThrownBy(() -> await(vertx.deployVerticle(engine(backend, fails))))
        .hasMessageContaining("no LoRA side");
  }

  private LoraRuntime watched() {
    NoLora none = new NoLora();
    return (LoraRuntime)
        Proxy.newProxyInstance(
            getClass().getClassLoader(),
            new Class<?>[] {LoraRuntime.class},
            (self, method, args) -> {
              if (method.getName().equals("close")) {
                closed.add((LoraRuntime) self);
              }
              return method.invoke(none, args);
            });
  }

  /** A device that is lost after the weights have been loaded. */
  private Backend withoutStreams() {
    return (Backend)
        Proxy.newProxyInstance(
            getClass().getClassLoader(),
            new Class<?>[] {Backend.class},
            (self, method, args) -> {
              if (method.getName().equals("openStream")) {
                throw new IllegalStateException("no stream");
              }
              try {
                return method.invoke(backend, args);
              } catch (InvocationTargetException e) {
                throw e.getCause();
              }
            });
  }

  /** Leaves at the first opportunity. */
  private static final class Leaver implements MultiSubscriber<TokenEvent> {
    @Override
    public void onSubscribe(Flow.Subscription subscription) {
      subscription.cancel();
    }

    @Override
    public void onItem(TokenEvent item) {}

    @Override
    public void onFailure(Throwable failure) {}

    @Override
    public void onCompletion() {}
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }
}
