package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.Eviction;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.lora.LoraServerVerticle;
import io.infinilora.lora.LoraShardVerticle;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/**
 * An adapter whose first layer is there, so that requests compute with it, and whose second one
 * cannot be loaded: they fail with the cause, long before the step's deadline, and nobody else.
 */
class LoadFailureTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final String MESSAGE = "an unreadable page of the test's";
  private static final Duration DEADLINE = Duration.ofMinutes(10);
  private static final AtomicInteger IDS = new AtomicInteger();
  private static final AdapterBudgets BUDGETS = new AdapterBudgets(64 << 20, 0, Eviction.LRU);
  private static final SchedulerConfig LIMITS =
      new SchedulerConfig(4, 16, 64, 16, 32, 16, 128, true);

  private final EventLoopWatch watch = new EventLoopWatch();
  private final Vertx vertx = watch.vertx();
  private final Checkpoint checkpoint = Checkpoints.open(MODEL);
  private final Backend backend = new CpuBackend();

  /** A step waits for what will not come. */
  private final CountDownLatch awaited = new CountDownLatch(1);

  /** Layers that can be read yet, once armed. */
  private final AtomicInteger layersLeft = new AtomicInteger();

  private volatile boolean armed;
  private BaseModelVerticle engine;

  private void start(LoraMode mode) {
    ModelSpec spec = checkpoint.spec();
    LoraAttachment lora;
    if (mode == LoraMode.COUPLED) {
      lora = CoupledLora.attachment("base", spec, faulty(), BUDGETS);
    } else {
      WireCodecs.registerAll(vertx.eventBus());
      await(
          vertx.deployVerticle(new LoraShardVerticle(spec, LoraShard.WHOLE, faulty(), BUDGETS, 1)));
      await(vertx.deployVerticle(new LoraServerVerticle(LoraGrid.SINGLE)));
      lora =
          DisaggregatedLora.attachment(
              "base", backend, spec, LoraGrid.SINGLE, LIMITS.maxBatchedTokens());
    }
    engine =
        new BaseModelVerticle(
            "base",
            BaseModel.allocate(TransformerLoader.load(checkpoint, backend), LIMITS, faulty()),
            LIMITS,
            1,
            new Patience(DEADLINE, Duration.ofMinutes(1), DEADLINE),
            lora,
            EngineMetrics.NONE);
    await(vertx.deployVerticle(engine));
    for (String name : new String[] {"a1", "a2"}) {
      engine
          .adapterAdmin()
          .load(AdapterRegistration.own(name, MODEL.resolve("adapters/" + name).toString()))
          .await()
          .indefinitely();
    }
  }

  @AfterEach
  void stop() {
    armed = false;
    awaited.countDown();
    await(vertx.close());
    backend.close();
    checkpoint.close();
    watch.assertSilent();
  }

  @ParameterizedTest
  @EnumSource(names = {"COUPLED", "DISAGGREGATED"})
  void failsTheRequestsThatWaitForTheLayer(LoraMode mode) {
    start(mode);
    List<Integer> first = tokens(1, Optional.empty()).join();
    List<Integer> third = tokens(3, Optional.of("a1")).join();
    layersLeft.set(1);
    armed = true;

    CompletableFuture<List<Integer>> one = tokens(2, Optional.of("a2"));
    CompletableFuture<List<Integer>> two = tokens(4, Optional.of("a2"));
    CompletableFuture<List<Integer>> neighbour = tokens(1, Optional.empty());
    CompletableFuture<List<Integer>> other = tokens(3, Optional.of("a1"));

    assertFailed(one);
    assertFailed(two);
    assertThat(neighbour.join()).isEqualTo(first);
    assertThat(other.join()).isEqualTo(third);

    armed = false;
    assertThat(tokens(2, Optional.of("a2")).join()).hasSize(10);
    await(engine.drain());
    assertThat(engine.load()).isEqualTo(new EngineLoad(0, 0, 0, LIMITS.kvBlocks(), 0));
  }

  private static void assertFailed(CompletableFuture<List<Integer>> request) {
    assertThatThrownBy(request::join)
        .isInstanceOf(CompletionException.class)
        .cause()
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.INTERNAL))
        .hasMessageContaining("a2")
        .hasMessageContaining(MESSAGE);
  }

  private Backend faulty() {
    return proxy(
        Backend.class,
        backend,
        name -> {
          if (name.equals("loraImage") && armed && layersLeft.getAndDecrement() <= 0) {
            awaited.await();
            throw new IllegalStateException(MESSAGE);
          }
        });
  }

  private interface Before {
    void call(String method) throws Exception;
  }

  private <T> T proxy(Class<T> type, T target, Before before) {
    return type.cast(
        Proxy.newProxyInstance(
            LoadFailureTest.class.getClassLoader(),
            new Class<?>[] {type},
            (self, method, args) -> {
              before.call(method.getName());
              try {
                Object result = method.invoke(target, args);
                return result instanceof OpStream ops ? watched(ops) : result;
              } catch (InvocationTargetException e) {
                throw e.getCause();
              }
            }));
  }

  /** Adapters are looked up before the first delta is computed. */
  private OpStream watched(OpStream ops) {
    return proxy(
        OpStream.class,
        ops,
        name -> {
          if (name.equals("loraAdd") && armed) {
            awaited.countDown();
          }
        });
  }

  private CompletableFuture<List<Integer>> tokens(int prompt, Optional<String> adapter) {
    return engine
        .generate(
            new GenerateRequest(
                "r" + IDS.incrementAndGet(),
                new Random(prompt).ints(37, 3, checkpoint.spec().vocab()).toArray(),
                adapter,
                SamplingParams.greedy(10).ignoringEos()))
        .filter(TokenEvent.Token.class::isInstance)
        .map(event -> ((TokenEvent.Token) event).token())
        .collect()
        .asList()
        .subscribeAsCompletionStage()
        .orTimeout(60, TimeUnit.SECONDS);
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }
}
