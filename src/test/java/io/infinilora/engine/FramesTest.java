package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraShard;
import io.infinilora.fake.Processes;
import io.infinilora.fake.Wire;
import io.infinilora.lora.FrameServer;
import io.infinilora.wire.BaseEnded;
import io.infinilora.wire.LeaseRelease;
import io.infinilora.wire.LeaseRequest;
import io.netty.buffer.ByteBufUtil;
import io.netty.buffer.PooledByteBufAllocator;
import io.netty.util.ResourceLeakDetector;
import io.vertx.core.Vertx;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Base models and LoRA servers in processes of their own, and what can happen between them. */
class FramesTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3");
  private static final LoraGrid WHOLE = LoraGrid.SINGLE;
  private static final int STREAMS = 6;
  private static final int TOKENS = 24;
  private static final List<String> LEAKS = new CopyOnWriteArrayList<>();

  private static ResourceLeakDetector.Level before;
  private static List<List<Integer>> undisturbed;

  private final Processes processes = new Processes(MODEL);
  private volatile Runnable duringLoraAdd = () -> {};

  @BeforeAll
  static void watchLeaksAndAskWhatIsRight() {
    before = ResourceLeakDetector.getLevel();
    ResourceLeakDetector.setLevel(ResourceLeakDetector.Level.PARANOID);
    ByteBufUtil.setLeakListener((type, records) -> LEAKS.add(type + records));
    try (Processes calm = new Processes(MODEL)) {
      BaseModelVerticle base = calm.base(calm.process(), "base", WHOLE);
      calm.loraServer(WHOLE, "127.0.0.1");
      calm.load(base, "a0", "a1", "a2");
      undisturbed = new ArrayList<>();
      for (int i = 0; i < STREAMS; i++) {
        undisturbed.add(stream(base, i).join());
      }
    }
  }

  @AfterAll
  static void nothingWasLeaked() {
    // What nobody refers to any more is reported when the next buffers are made.
    System.gc();
    for (int i = 0; i < 1_000; i++) {
      PooledByteBufAllocator.DEFAULT.directBuffer(64).release();
    }
    ByteBufUtil.setLeakListener(null);
    ResourceLeakDetector.setLevel(before);
    assertThat(LEAKS).isEmpty();
  }

  @AfterEach
  void close() {
    duringLoraAdd = () -> {};
    processes.close();
  }

  private static CompletableFuture<List<Integer>> stream(BaseModelVerticle base, int i) {
    Optional<String> adapter = i % 4 == 3 ? Optional.empty() : Optional.of("a" + i % 4);
    int[] prompt = new Random(i).ints(20 + 7 * i, 3, 320).toArray();
    return Processes.tokens(base, prompt, adapter, TOKENS);
  }

  private static List<CompletableFuture<List<Integer>>> all(BaseModelVerticle base) {
    List<CompletableFuture<List<Integer>>> streams = new ArrayList<>();
    for (int i = 0; i < STREAMS; i++) {
      streams.add(stream(base, i));
    }
    return streams;
  }

  private static void assertUndisturbed(List<CompletableFuture<List<Integer>>> streams) {
    for (int i = 0; i < STREAMS; i++) {
      assertThat(streams.get(i).join()).as("stream %d", i).isEqualTo(undisturbed.get(i));
    }
  }

  private static List<String> names(BaseModelVerticle base) {
    return base.adapters().stream().map(AdapterId::name).sorted().toList();
  }

  private static void assertNothingIsHeld(BaseModelVerticle base) {
    Processes.await(base.drain());
    assertThat(base.load()).isEqualTo(new EngineLoad(0, 0, 0, Processes.LIMITS.kvBlocks(), 0));
    // Unloading waits for claims, so none is left if it comes to an end.
    for (String name : names(base)) {
      base.adapterAdmin()
          .unload(name, AdapterAdmin.WhenInUse.WAIT)
          .await()
          .atMost(Duration.ofSeconds(5));
    }
  }

  /** A server behind a wire, with a shard that somebody hears of while it computes. */
  private Wire disturbed(Vertx process, LoraGrid grid) {
    FrameServer frames = processes.frames(process, Wire.HOST);
    Wire wire = Processes.await(Wire.before(Vertx.vertx(), frames.address().port()));
    for (LoraShard shard : grid.shards()) {
      processes.shard(process, shard, Optional.of(frames), this::watched);
    }
    processes.coordinator(process, grid);
    return wire;
  }

  private Backend watched(Backend device) {
    return (Backend)
        Proxy.newProxyInstance(
            FramesTest.class.getClassLoader(),
            new Class<?>[] {Backend.class},
            (self, method, args) -> {
              Object result = method.invoke(device, args);
              return result instanceof OpStream ops ? watched(ops) : result;
            });
  }

  private OpStream watched(OpStream ops) {
    return (OpStream)
        Proxy.newProxyInstance(
            FramesTest.class.getClassLoader(),
            new Class<?>[] {OpStream.class},
            (self, method, args) -> {
              if (method.getName().equals("loraAdd")) {
                duringLoraAdd.run();
              }
              try {
                return method.invoke(ops, args);
              } catch (InvocationTargetException e) {
                throw e.getCause();
              }
            });
  }

  @Test
  void streamsOutliveConnectionsThatEndAnywhere() {
    BaseModelVerticle base = processes.base(processes.process(), "base", WHOLE);
    Wire wire = disturbed(processes.process(), WHOLE);
    processes.load(base, "a0", "a1", "a2");
    AtomicInteger computed = new AtomicInteger();
    Random random = new Random(3);
    duringLoraAdd =
        () -> {
          int n = computed.incrementAndGet();
          if (n % 97 == 0 && wire.cuts() < 12) {
            // In the middle of a step, of a frame, or of a header.
            wire.cutAfter(random.nextInt(4_000));
          } else if (n % 211 == 0 && wire.cuts() < 12) {
            throw new IllegalStateException("an error of the test");
          }
        };

    assertUndisturbed(all(base));
    assertUndisturbed(all(base));
    assertThat(wire.cuts()).isGreaterThan(4);
    duringLoraAdd = () -> {};
    assertNothingIsHeld(base);
  }

  @Test
  void aStepWithoutAnswerIsGivenUpAtItsDeadline() {
    BaseModelVerticle base =
        processes.base(processes.process(), "base", WHOLE, Duration.ofMillis(300));
    Wire wire = disturbed(processes.process(), WHOLE);
    processes.load(base, "a0", "a1", "a2");
    assertThat(stream(base, 1).join()).isEqualTo(undisturbed.get(1));
    AtomicInteger computed = new AtomicInteger();
    CompletableFuture<Void> silent = new CompletableFuture<>();
    duringLoraAdd =
        () -> {
          if (computed.incrementAndGet() == 9) {
            wire.silence(true);
            silent.complete(null);
          }
        };
    CompletableFuture<List<Integer>> caught = stream(base, 1);
    silent.join();
    // Others are served while nothing comes back.
    assertThat(stream(base, 3).join()).isEqualTo(undisturbed.get(3));
    assertThat(caught).isNotDone();
    wire.silence(false);
    wire.cut(); // Bytes were lost, so the streams of frames are not any more.

    assertThat(caught.join()).isEqualTo(undisturbed.get(1));
    assertNothingIsHeld(base);
  }

  @Test
  void twoBasesShareAShard() {
    Vertx process = processes.process();
    BaseModelVerticle first = processes.base(process, "first", WHOLE);
    BaseModelVerticle second = processes.base(processes.process(), "second", WHOLE);
    processes.loraServer(WHOLE, "127.0.0.1");
    processes.load(first, "a0", "a1");
    processes.load(second, "a2");
    Processes.until(
        process, "follows", () -> names(first).size() == 3 && names(second).size() == 3);

    List<CompletableFuture<List<Integer>>> ofFirst = all(first);
    assertUndisturbed(all(second));
    assertUndisturbed(ofFirst);
  }

  @Test
  void whatABaseHoldsIsFreeWhenItsConnectionEnds() {
    Vertx process = processes.process();
    Vertx dies = processes.process();
    BaseModelVerticle dying = processes.base(dies, "dying", WHOLE);
    BaseModelVerticle other = processes.base(process, "other", WHOLE);
    Wire wire = disturbed(processes.process(), WHOLE);
    processes.load(other, "a0");
    Processes.until(process, "follows", () -> names(dying).contains("a0"));
    CompletableFuture<Void> computing = new CompletableFuture<>();
    CompletableFuture<Void> go = new CompletableFuture<>();
    duringLoraAdd =
        () -> {
          computing.complete(null);
          go.join();
        };
    CompletableFuture<List<Integer>> running = stream(dying, 0);
    computing.join();
    assertThat(claims(other)).isEqualTo(1);
    // A process that is killed says nothing on the bus: no release, no end, no renewal.
    dies.eventBus()
        .addOutboundInterceptor(
            delivery -> {
              if (!(delivery.body() instanceof LeaseRelease)
                  && !(delivery.body() instanceof LeaseRequest)
                  && !(delivery.body() instanceof BaseEnded)) {
                delivery.next();
              }
            });
    wire.cut();
    go.complete(null);

    // Far less than a shard's patience with a base that has said nothing.
    long end = System.nanoTime() + Duration.ofSeconds(5).toNanos();
    Processes.until(process, "free", () -> claims(other) == 0 || System.nanoTime() > end);
    assertThat(claims(other)).isZero();
    assertThat(running).isNotDone();
  }

  private static int claims(BaseModelVerticle base) {
    return base.adapterAdmin().list().await().atMost(Duration.ofSeconds(20)).stream()
        .mapToInt(AdapterStatus::claims)
        .sum();
  }

  @Test
  void aShardThatBeginsAgainBehindTheSamePortIsFollowed() {
    BaseModelVerticle base = processes.base(processes.process(), "base", WHOLE);
    Vertx process = processes.process();
    FrameServer frames = processes.frames(process, "127.0.0.1");
    String shard = processes.shard(process, LoraShard.WHOLE, Optional.of(frames));
    processes.coordinator(process, WHOLE);
    processes.load(base, "a0", "a1", "a2");
    List<CompletableFuture<List<Integer>>> streams = all(base);
    stream(base, 2).join();

    Processes.await(process.undeploy(shard));
    processes.shard(process, LoraShard.WHOLE, Optional.of(frames));

    assertUndisturbed(streams);
    assertUndisturbed(all(base));
    assertNothingIsHeld(base);
  }

  @Test
  void requestsOutliveTheProcessOfTheLoraServer() {
    BaseModelVerticle base = processes.base(processes.process(), "base", WHOLE);
    Vertx coordinating = processes.process();
    processes.coordinator(coordinating, WHOLE);
    Vertx first = processes.process();
    FrameServer frames = processes.frames(first, "127.0.0.1");
    processes.shard(first, LoraShard.WHOLE, Optional.of(frames));
    processes.load(base, "a0", "a1", "a2");
    List<CompletableFuture<List<Integer>>> streams = all(base);
    stream(base, 2).join();

    processes.end(first);
    Vertx second = processes.process();
    processes.shard(second, LoraShard.WHOLE, Optional.of(processes.frames(second, "127.0.0.1")));

    assertUndisturbed(streams);
    assertUndisturbed(all(base));
    assertNothingIsHeld(base);
  }

  @Test
  void aCoordinatorThatComesLaterLearnsAndTellsWhatThereIs() {
    Vertx process = processes.process();
    BaseModelVerticle base = processes.base(process, "base", WHOLE);
    Vertx coordinating = processes.process();
    String coordinator = processes.coordinator(coordinating, WHOLE);
    Vertx shards = processes.process();
    processes.shard(shards, LoraShard.WHOLE, Optional.of(processes.frames(shards, "127.0.0.1")));
    processes.load(base, "a0", "a1");
    Processes.await(coordinating.undeploy(coordinator));

    // It knows neither shards nor adapters, and another base has never heard of any.
    processes.coordinator(processes.process(), WHOLE);
    Vertx late = processes.process();
    BaseModelVerticle newcomer = processes.base(late, "newcomer", WHOLE);

    Processes.until(late, "told", () -> names(newcomer).equals(List.of("a0", "a1")));
    assertThat(stream(newcomer, 1).join()).isEqualTo(undisturbed.get(1));
    newcomer
        .adapterAdmin()
        .unload("a1", AdapterAdmin.WhenInUse.WAIT)
        .await()
        .atMost(Duration.ofSeconds(30));
    Processes.until(process, "told", () -> names(base).equals(List.of("a0")));
  }

  @Test
  void aBaseOfAnotherModelIsRefused() {
    try (Processes others = new Processes(Path.of("src/test/resources/fixtures/llama"))) {
      BaseModelVerticle right = processes.base(processes.process(), "right", WHOLE);
      processes.loraServer(WHOLE, "127.0.0.1");
      processes.load(right, "a0", "a1", "a2");
      BaseModelVerticle wrong =
          others.base(
              processes.process(),
              "wrong",
              WHOLE,
              Duration.ofSeconds(30),
              Duration.ofMillis(1_500));
      Processes.until(
          processes.process(), "told", () -> names(wrong).equals(List.of("a0", "a1", "a2")));

      assertThatThrownBy(() -> stream(wrong, 0).join())
          .cause()
          .isInstanceOfSatisfying(
              InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.UNAVAILABLE))
          .hasMessageContaining("LoRA shard EP0/1-PP0/1 is not there")
          .hasMessageContaining("base model wrong is not the one of this LoRA server");
      assertUndisturbed(all(right));
    }
  }
}
