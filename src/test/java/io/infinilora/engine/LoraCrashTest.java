package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;
import static org.assertj.core.api.Assertions.tuple;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.Eviction;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.LoraGrid;
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
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.WireCodecs;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/** Shards and coordinators of the LoRA Server that die and begin again, under load. */
class LoraCrashTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final LoraGrid GRID = new LoraGrid(1, 2);
  private static final AdapterBudgets BUDGETS = new AdapterBudgets(4 << 20, 0, Eviction.LRU);
  private static final SchedulerConfig LIMITS =
      new SchedulerConfig(6, 16, 24, 16, 64, 16, 128, true);
  private static final List<Optional<String>> ADAPTERS =
      List.of(Optional.empty(), Optional.of("a0"), Optional.of("a1"), Optional.of("a2"));
  private static final int STREAMS = 8;
  private static final int TOKENS = 24;

  private final EventLoopWatch watch = new EventLoopWatch();
  private final Vertx vertx = watch.vertx();
  private final Checkpoint checkpoint = Checkpoints.open(MODEL);
  private final Backend backend = new CpuBackend();
  private final AtomicInteger ids = new AtomicInteger();
  private final Map<LoraShard, String> deployed = new ConcurrentHashMap<>();
  private volatile Consumer<Object[]> duringLoraAdd = args -> {};
  private String coordinator;
  private BaseModelVerticle engine;
  private String base;

  private void start(Duration retry) {
    WireCodecs.registerAll(vertx.eventBus());
    GRID.shards().forEach(shard -> await(deploy(shard)));
    coordinator = await(vertx.deployVerticle(new LoraServerVerticle(GRID)));
    ModelSpec spec = checkpoint.spec();
    engine =
        new BaseModelVerticle(
            "base",
            BaseModel.allocate(TransformerLoader.load(checkpoint, backend), LIMITS, backend),
            LIMITS,
            1,
            new Patience(Duration.ofSeconds(30), Duration.ofSeconds(30), retry),
            DisaggregatedLora.attachment("base", backend, spec, GRID, LIMITS.maxBatchedTokens()),
            EngineMetrics.NONE);
    base = await(vertx.deployVerticle(engine));
    ADAPTERS.stream().flatMap(Optional::stream).forEach(this::load);
  }

  private void load(String name) {
    engine
        .adapterAdmin()
        .load(AdapterRegistration.own(name, MODEL.resolve("adapters/" + name).toString()))
        .await()
        .atMost(Duration.ofMinutes(1));
  }

  private Future<String> deploy(LoraShard shard) {
    return vertx
        .deployVerticle(
            new LoraShardVerticle(checkpoint.spec(), shard, watched(backend), BUDGETS, 1))
        .onSuccess(id -> deployed.put(shard, id));
  }

  /** A shard dies, and a new one without any memory takes its place. */
  private Future<String> crash(LoraShard shard) {
    return vertx.undeploy(deployed.get(shard)).compose(v -> deploy(shard));
  }

  @AfterEach
  void stop() {
    await(vertx.close());
    backend.close();
    checkpoint.close();
    watch.assertSilent();
  }

  @Test
  void streamsOutliveCrashes() {
    start(Duration.ofSeconds(30));
    List<List<Integer>> undisturbed = new ArrayList<>();
    for (int i = 0; i < STREAMS; i++) {
      undisturbed.add(stream(i).join());
    }
    Chaos chaos = new Chaos(48, 11);
    // Half of the dying have no time to say so.
    Random farewells = new Random(7);
    vertx
        .eventBus()
        .addOutboundInterceptor(
            delivery -> {
              if (!(delivery.body() instanceof ShardNotice notice)
                  || notice.serving()
                  || farewells.nextBoolean()) {
                delivery.next();
              }
            });
    duringLoraAdd = args -> chaos.computed();
    List<CompletableFuture<Integer>> streams = new ArrayList<>();
    for (int i = 0; i < STREAMS; i++) {
      streams.add(untilOver(chaos, i, undisturbed.get(i), 0));
    }
    int total = 0;
    for (CompletableFuture<Integer> stream : streams) {
      total += stream.join();
    }

    assertThat(total).isGreaterThanOrEqualTo(STREAMS);
    assertThat(chaos.errors).hasPositiveValue();
    assertThat(chaos.crashes).hasValueGreaterThanOrEqualTo(24);
    await(chaos.settled);
    assertNothingIsHeld();
  }

  /** One request after the other until there are no more disturbances; each must be as ever. */
  private CompletableFuture<Integer> untilOver(
      Chaos chaos, int i, List<Integer> expected, int done) {
    return stream(i)
        .thenCompose(
            tokens -> {
              assertThat(tokens).as("stream %d, request %d", i, done).isEqualTo(expected);
              return chaos.over()
                  ? CompletableFuture.completedFuture(done + 1)
                  : untilOver(chaos, i, expected, done + 1);
            });
  }

  /** Every now and then while a shard computes, it makes an error, dies, or both. */
  private final class Chaos {
    final AtomicInteger errors = new AtomicInteger();
    final AtomicInteger crashes = new AtomicInteger();
    private final Random random;
    private int disturbances;
    private int calm = 10;
    private boolean crashing;
    private volatile Future<String> settled = Future.succeededFuture();

    Chaos(int disturbances, long seed) {
      this.disturbances = disturbances;
      random = new Random(seed);
    }

    synchronized boolean over() {
      return disturbances == 0 && !crashing;
    }

    synchronized void computed() {
      if (disturbances == 0 || crashing || --calm > 0) {
        return;
      }
      disturbances--;
      calm = 1 + random.nextInt(60);
      int kind = random.nextInt(4);
      if (kind > 0) {
        crashing = true;
        crashes.incrementAndGet();
        LoraShard shard = GRID.shards().get(random.nextInt(2));
        settled = crash(shard).onComplete(v -> calmAgain());
      }
      if (kind < 2) {
        errors.incrementAndGet();
        throw new IllegalStateException("an error of the test");
      }
    }

    private synchronized void calmAgain() {
      crashing = false;
    }
  }

  @Test
  void anAdapterThatAlwaysFailsFailsAlone() {
    start(Duration.ofSeconds(2));
    List<List<Integer>> undisturbed = new ArrayList<>();
    for (int i = 0; i < 4; i++) {
      undisturbed.add(stream(i).join());
    }
    Set<Object> weightsOfA1 = ConcurrentHashMap.newKeySet();
    duringLoraAdd = args -> weightsOfA1.addAll(present(args));
    stream(ADAPTERS.indexOf(Optional.of("a1"))).join();
    duringLoraAdd =
        args -> {
          if (present(args).stream().anyMatch(weightsOfA1::contains)) {
            throw new IllegalStateException("a1 is defective");
          }
        };

    List<CompletableFuture<List<Integer>>> streams = new ArrayList<>();
    for (int i = 0; i < STREAMS; i++) {
      streams.add(stream(i));
    }
    for (int i = 0; i < STREAMS; i++) {
      CompletableFuture<List<Integer>> stream = streams.get(i);
      if (ADAPTERS.get(i % 4).equals(Optional.of("a1"))) {
        assertThatThrownBy(stream::join).hasMessageContaining("a1 is defective");
      } else {
        assertThat(stream.join()).hasSize(TOKENS);
        if (i < 4) {
          assertThat(stream.join()).isEqualTo(undisturbed.get(i));
        }
      }
    }
    assertNothingIsHeld();
  }

  private static Collection<?> present(Object[] args) {
    return ((List<?>) args[1]).stream().filter(weights -> weights != null).toList();
  }

  @Test
  void requestsOutliveACoordinatorAndTheNextOneKnowsTheAdapters() {
    start(Duration.ofSeconds(30));
    List<Integer> expected = stream(1).join();
    List<AdapterStatus> before = engine.adapterAdmin().list().await().indefinitely();

    await(vertx.undeploy(coordinator));
    assertThat(stream(1).join()).isEqualTo(expected);
    await(vertx.deployVerticle(new LoraServerVerticle(GRID)));

    assertThat(engine.adapterAdmin().list().await().indefinitely())
        .extracting(AdapterStatus::id, AdapterStatus::source)
        .containsExactlyInAnyOrderElementsOf(
            before.stream().map(s -> tuple(s.id(), s.source())).toList());
    GRID.shards().forEach(shard -> await(crash(shard)));
    assertThat(stream(1).join()).isEqualTo(expected);
    assertNothingIsHeld();
  }

  @Test
  void aBaseThatEndsFreesItsClaims() {
    start(Duration.ofSeconds(30));
    CompletableFuture<List<Integer>> running = stream(1);
    await(vertx.undeploy(base));
    assertThatThrownBy(running::join).hasMessageContaining("shutting down");

    // Far less than a shard's patience with a base that has said nothing.
    unloadAll(Duration.ofSeconds(5));
  }

  private void assertNothingIsHeld() {
    await(engine.drain());
    assertThat(engine.load()).isEqualTo(new EngineLoad(0, 0, 0, LIMITS.kvBlocks(), 0));
    unloadAll(Duration.ofSeconds(30));
  }

  /** Unloading waits for claims, so none is left if it comes to an end. */
  private void unloadAll(Duration patience) {
    for (Optional<String> adapter : ADAPTERS.subList(1, ADAPTERS.size())) {
      engine
          .adapterAdmin()
          .unload(adapter.get(), AdapterAdmin.WhenInUse.WAIT)
          .await()
          .atMost(patience);
    }
  }

  /** The tokens of a stream, whose indices must be without gap or repetition. */
  private CompletableFuture<List<Integer>> stream(int i) {
    List<Integer> tokens = new ArrayList<>();
    return engine
        .generate(
            new GenerateRequest(
                "r" + ids.incrementAndGet(),
                new Random(i).ints(20 + 3 * i, 3, 320).toArray(),
                ADAPTERS.get(i % ADAPTERS.size()),
                SamplingParams.greedy(TOKENS).ignoringEos()))
        .filter(TokenEvent.Token.class::isInstance)
        .invoke(
            event -> {
              assertThat(((TokenEvent.Token) event).index()).isEqualTo(tokens.size());
              tokens.add(((TokenEvent.Token) event).token());
            })
        .collect()
        .last()
        .map(last -> List.copyOf(tokens))
        .subscribeAsCompletionStage()
        .orTimeout(60, TimeUnit.SECONDS);
  }

  /** A device whose low-rank products somebody hears of first. */
  private Backend watched(Backend device) {
    return (Backend)
        Proxy.newProxyInstance(
            LoraCrashTest.class.getClassLoader(),
            new Class<?>[] {Backend.class},
            (self, method, args) -> {
              Object result = call(() -> method.invoke(device, args));
              return result instanceof OpStream ops ? watched(ops) : result;
            });
  }

  private OpStream watched(OpStream ops) {
    return (OpStream)
        Proxy.newProxyInstance(
            LoraCrashTest.class.getClassLoader(),
            new Class<?>[] {OpStream.class},
            (self, method, args) -> {
              if (method.getName().equals("loraAdd")) {
                duringLoraAdd.accept(args);
              }
              return call(() -> method.invoke(ops, args));
            });
  }

  private interface Invocation {
    Object run() throws ReflectiveOperationException;
  }

  private static Object call(Invocation invocation) throws Throwable {
    try {
      return invocation.run();
    } catch (InvocationTargetException e) {
      throw e.getCause();
    }
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }
}
