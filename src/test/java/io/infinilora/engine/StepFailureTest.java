package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import ch.qos.logback.classic.Logger;
import ch.qos.logback.classic.spi.ILoggingEvent;
import ch.qos.logback.core.read.ListAppender;
import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.Engine;
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
import io.infinilora.engine.Faults.Place;
import io.infinilora.fake.StepGate;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.lora.LoraServerVerticle;
import io.infinilora.lora.LoraShardVerticle;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.model.TransformerLoader;
import io.infinilora.node.Node;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Future;
import io.vertx.core.Promise;
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
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BiConsumer;
import java.util.function.BooleanSupplier;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.slf4j.LoggerFactory;

/**
 * A step that fails on the base's side takes its own requests with it, and nothing and nobody else.
 * One that fails on the LoRA side is computed again.
 */
class StepFailureTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final int VOCAB = 320;
  private static final AtomicInteger IDS = new AtomicInteger();
  private static final Duration SHORT_DEADLINE = Duration.ofSeconds(1);
  private static final SchedulerConfig LIMITS =
      new SchedulerConfig(2, 8, 64, 16, 32, 16, 128, true);

  private static final InfiniLoraConfig UNTROUBLED =
      new InfiniLoraConfig(
          Optional.of(MODEL),
          Optional.of(MODEL.resolve("adapters")),
          LoraMode.COUPLED,
          ServerConfig.DEFAULTS,
          new EngineConfig(
              Optional.of(1),
              Optional.of(1),
              Optional.empty(),
              ByteSize.mebibytes(1),
              1,
              8,
              64,
              64,
              false,
              EngineConfig.DEFAULT_POLICY,
              Duration.ofSeconds(60)));

  private static final AdapterBudgets BUDGETS = new AdapterBudgets(64 << 20, 0, Eviction.LRU);

  private static List<Integer> first;
  private static List<Integer> second;
  private static List<Integer> third;

  private final EventLoopWatch watch = new EventLoopWatch();
  private final Vertx vertx = watch.vertx();
  private final StepGate gate = new StepGate(EngineMetrics.NONE);
  private final Faults faults = new Faults();
  private final AtomicInteger grants = new AtomicInteger();
  private final Checkpoint checkpoint = Checkpoints.open(MODEL);
  private final Backend backend = new CpuBackend();
  private BaseModelVerticle engine;
  private String deployment;

  /** Whether there is no request before those of the test. */
  private boolean unused;

  private CompletableFuture<List<Integer>> neighbour;
  private CompletableFuture<List<Integer>> culprit;
  private CompletableFuture<List<Integer>> waiting;

  @BeforeAll
  static void askAnEngineWithoutFaults() {
    Node node = await(Node.start(Vertx.vertx(), UNTROUBLED, EngineMetrics.NONE));
    first = tokens(node.engine(), 1, Optional.empty()).join();
    second = tokens(node.engine(), 2, Optional.of("a2")).join();
    third = tokens(node.engine(), 3, Optional.of("a1")).join();
    await(node.close());
  }

  private void start(Place place) {
    start(place, Duration.ofMinutes(2));
  }

  private void start(Place place, Duration retry) {
    start(place, retry, place == Place.LORA_SERVER_HANGS ? SHORT_DEADLINE : Duration.ofMinutes(2));
  }

  private void start(Place place, Duration retry, Duration stepDeadline) {
    boolean server = place == Place.LORA_SERVER || place == Place.LORA_SERVER_HANGS;
    ModelSpec spec = checkpoint.spec();
    if (server) {
      WireCodecs.registerAll(vertx.eventBus());
      Backend faulty = faults.in(backend, place);
      await(vertx.deployVerticle(new LoraShardVerticle(spec, LoraShard.WHOLE, faulty, BUDGETS, 1)));
      await(vertx.deployVerticle(new LoraServerVerticle(LoraGrid.SINGLE)));
    }
    LoraAttachment lora =
        server
            ? DisaggregatedLora.attachment(
                "base", backend, spec, LoraGrid.SINGLE, LIMITS.maxBatchedTokens())
            : (vertx, loop, driver) ->
                CoupledLora.attachment("base", spec, backend, BUDGETS)
                    .attach(vertx, loop, driver)
                    .map(runtime -> faults.in(runtime, place));
    engine =
        new BaseModelVerticle(
            "base",
            BaseModel.allocate(TransformerLoader.load(checkpoint, backend), LIMITS, backend),
            LIMITS,
            1,
            new Patience(stepDeadline, Duration.ofMinutes(1), retry),
            (vertx, loop, driver) -> lora.attach(vertx, loop, driver).map(this::counted),
            gate);
    deployment = await(vertx.deployVerticle(engine));
    for (String name : new String[] {"a1", "a2"}) {
      AdapterAdmin admin = engine.adapterAdmin();
      admin
          .load(AdapterRegistration.own(name, MODEL.resolve("adapters/" + name).toString()))
          .await()
          .indefinitely();
      if (!unused) {
        // In memory already, so that the requests are admitted in the order in which they come.
        tokens(engine, 1, Optional.of(name)).join();
      }
    }
  }

  @AfterEach
  void stop() {
    faults.disarm();
    gate.open();
    await(vertx.close());
    backend.close();
    checkpoint.close();
    watch.assertSilent();
  }

  @ParameterizedTest
  @EnumSource(names = {"ANNOUNCE", "PUBLISH", "JOIN"})
  void failsTheRequestsOfTheStepWithItsCause(Place place) {
    start(place);
    askAllWithAFault();

    assertFailed(culprit, ErrorCode.INTERNAL, Faults.MESSAGE);
    assertFailed(neighbour, ErrorCode.INTERNAL, Faults.MESSAGE);
    assertThat(waiting.join()).isEqualTo(third);

    assertNothingIsLeft();
  }

  @Test
  void computesAgainWhatTheLoraServerCouldNot() {
    start(Place.LORA_SERVER);
    askAllWithAFault();

    assertThat(neighbour.join()).isEqualTo(first);
    assertThat(culprit.join()).isEqualTo(second);
    assertThat(waiting.join()).isEqualTo(third);
    assertNothingIsLeft();
  }

  @Test
  void servesTheBaseModelWhileTheLoraServerHangs() {
    start(Place.LORA_SERVER_HANGS);
    askAllWithAFault();

    assertThat(neighbour.join()).isEqualTo(first);
    assertThat(tokens(engine, 1, Optional.empty()).join()).isEqualTo(first);
    assertThat(culprit).isNotDone();
    assertThat(waiting).isNotDone();
    faults.disarm();
    assertThat(culprit.join()).isEqualTo(second);
    assertThat(waiting.join()).isEqualTo(third);
    assertNothingIsLeft();
  }

  /** The deadline is longer than any request here may take. */
  @Test
  void aHungDriverIsNoticedBeforeTheDeadline() {
    start(Place.LORA_SERVER_HANGS, Duration.ofMinutes(2), Duration.ofMinutes(2));
    askAllWithAFault();

    assertThat(neighbour.join()).isEqualTo(first);
    assertThat(culprit).isNotDone();
    faults.disarm();
    assertThat(culprit.join()).isEqualTo(second);
    assertThat(waiting.join()).isEqualTo(third);
    assertNothingIsLeft();
  }

  @ParameterizedTest
  @EnumSource(names = {"ANNOUNCE", "LORA_SERVER"})
  void aWarmUpOutlivesFailuresOfTheLoraSide(Place place) {
    unused = true;
    start(place);
    faults.arm();

    await(engine.warmUp(Duration.ofMillis(200)));

    assertThat(faults.count()).isEqualTo(1);
    assertThat(tokens(engine, 2, Optional.of("a2")).join()).isEqualTo(second);
    assertNothingIsLeft();
  }

  /** Its requests have failed by then, and nothing is tried again. */
  @Test
  void aStepThatFailsAfterTheEndIsNoNews() {
    start(Place.LORA_SERVER_HANGS);
    ListAppender<ILoggingEvent> news = new ListAppender<>();
    news.start();
    Logger logger = (Logger) LoggerFactory.getLogger(StepFailures.class);
    logger.addAppender(news);
    try {
      faults.arm();
      culprit = tokens(engine, 2, Optional.of("a2"));
      until(() -> faults.count() == 1);

      await(vertx.undeploy(deployment));

      assertFailed(culprit, ErrorCode.UNAVAILABLE, "the server is shutting down");
      assertThat(news.list).isEmpty();
    } finally {
      logger.detachAppender(news);
    }
  }

  @Test
  void givesUpWhenTheLoraServerHangsForTooLong() {
    start(Place.LORA_SERVER_HANGS, Duration.ofMillis(500));
    askAllWithAFault();

    assertFailed(culprit, ErrorCode.DEADLINE_EXCEEDED, "before the step's deadline");
    assertThat(neighbour.join()).isEqualTo(first);
    faults.disarm();
    assertThat(waiting.join()).isEqualTo(third);
    assertNothingIsLeft();
  }

  private void askAllWithAFault() {
    gate.allow(0);
    int before = grants.get();
    neighbour = tokens(engine, 1, Optional.empty());
    culprit = tokens(engine, 2, Optional.of("a2"));
    waiting = tokens(engine, 3, Optional.of("a1"));
    gate.awaitHeld(); // The neighbour's first step has been computed.
    // At most two run at once, so the next step has the first two, as their adapters are there.
    until(() -> engine.load().running() == 1 && engine.load().waiting() == 2);
    until(() -> grants.get() == before + 2);
    faults.arm();
    gate.open();
  }

  private void assertNothingIsLeft() {
    // What the failed step had begun to write is not taken for a prefix.
    assertThat(tokens(engine, 1, Optional.empty()).join()).isEqualTo(first);
    assertThat(tokens(engine, 2, Optional.of("a2")).join()).isEqualTo(second);
    await(engine.drain());
    assertThat(engine.load()).isEqualTo(new EngineLoad(0, 0, 0, LIMITS.kvBlocks(), 0));
    assertThat(faults.count()).isEqualTo(1);
  }

  private static void assertFailed(
      CompletableFuture<List<Integer>> request, ErrorCode code, String message) {
    assertThatThrownBy(request::join)
        .isInstanceOf(CompletionException.class)
        .cause()
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(code))
        .hasMessageContaining(message);
  }

  /** The greedy tokens after one of the prompts, which are longer than a block and a chunk. */
  private static CompletableFuture<List<Integer>> tokens(
      Engine engine, int prompt, Optional<String> adapter) {
    return engine
        .generate(
            new GenerateRequest(
                "r" + IDS.incrementAndGet(),
                new Random(prompt).ints(37, 3, VOCAB).toArray(),
                adapter,
                SamplingParams.greedy(10).ignoringEos()))
        .filter(TokenEvent.Token.class::isInstance)
        .map(event -> ((TokenEvent.Token) event).token())
        .collect()
        .asList()
        .subscribeAsCompletionStage()
        .orTimeout(60, TimeUnit.SECONDS);
  }

  /** The same, but it counts the leases that are granted: a server takes its time for that. */
  private LoraRuntime counted(LoraRuntime runtime) {
    return proxy(
        LoraRuntime.class,
        runtime,
        (method, args) -> {
          if (method.equals("lease")) {
            args[2] = counted((LoraRuntime.LeaseListener) args[2]);
          }
        },
        method -> {});
  }

  private LoraRuntime.LeaseListener counted(LoraRuntime.LeaseListener listener) {
    return proxy(
        LoraRuntime.LeaseListener.class,
        listener,
        (method, args) -> {},
        method -> {
          if (method.equals("granted")) {
            grants.incrementAndGet();
          }
        });
  }

  private static <T> T proxy(
      Class<T> type, T target, BiConsumer<String, Object[]> before, Consumer<String> after) {
    return type.cast(
        Proxy.newProxyInstance(
            StepFailureTest.class.getClassLoader(),
            new Class<?>[] {type},
            (self, method, args) -> {
              before.accept(method.getName(), args);
              try {
                return method.invoke(target, args);
              } catch (InvocationTargetException e) {
                throw e.getCause();
              } finally {
                after.accept(method.getName());
              }
            }));
  }

  /** Lets the event loops take turns until something is so. */
  private void until(BooleanSupplier condition) {
    long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
    while (!condition.getAsBoolean()) {
      assertThat(System.nanoTime()).as("time: %s", engine.load()).isLessThan(deadline);
      Promise<Void> turn = Promise.promise();
      vertx.runOnContext(turn::complete);
      await(turn.future());
    }
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }
}
