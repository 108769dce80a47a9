package io.infinilora.fake;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.adapter.SourceResolver;
import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.config.Eviction;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraShard;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.engine.BaseModel;
import io.infinilora.engine.BaseModelVerticle;
import io.infinilora.engine.DisaggregatedLora;
import io.infinilora.engine.Patience;
import io.infinilora.engine.PromptObserver;
import io.infinilora.lora.FrameEndpoint;
import io.infinilora.lora.FrameServer;
import io.infinilora.lora.LoraServerVerticle;
import io.infinilora.lora.LoraShardVerticle;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.metrics.LoraMetrics;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.smallrye.mutiny.Multi;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import java.util.function.UnaryOperator;

/**
 * Base models and LoRA servers of one model, each in a process of its own as far as they can tell.
 */
public final class Processes implements AutoCloseable {
  /** What base models get, unless said otherwise. */
  public static final SchedulerConfig LIMITS =
      new SchedulerConfig(6, 64, 256, 16, 64, 24, 256, true);

  private static final AdapterBudgets BUDGETS = new AdapterBudgets(64 << 20, 0, Eviction.LRU);
  private static final AtomicInteger IDS = new AtomicInteger();

  private final InMemoryCluster cluster = new InMemoryCluster();
  private final Path model;
  private final Checkpoint checkpoint;
  private final Deque<Vertx> running = new ConcurrentLinkedDeque<>();
  private final Map<Vertx, Backend> backends = new ConcurrentHashMap<>();

  /** Processes for a model's directory. */
  public Processes(Path model) {
    this.model = model;
    checkpoint = Checkpoints.open(model);
  }

  /** A new process. */
  public Vertx process() {
    Vertx vertx = cluster.join();
    running.push(vertx);
    return vertx;
  }

  /** Ends a process in order. */
  public void end(Vertx process) {
    running.remove(process);
    await(process.close());
  }

  /** A process has one device. */
  private Backend backend(Vertx process) {
    return backends.computeIfAbsent(process, p -> new CpuBackend());
  }

  /** Takes frames in a process, at an address that base models see as {@code host}. */
  public FrameServer frames(Vertx process, String host) {
    return await(FrameServer.listen(process, new FrameEndpoint("127.0.0.1", host, 0)));
  }

  /** A shard; returns its deployment. */
  public String shard(Vertx process, LoraShard shard, Optional<FrameServer> frames) {
    return shard(process, shard, frames, device -> device);
  }

  /** A shard on a device that somebody has laid hands on. */
  public String shard(
      Vertx process, LoraShard shard, Optional<FrameServer> frames, UnaryOperator<Backend> device) {
    return await(
        process.deployVerticle(
            new LoraShardVerticle(
                checkpoint.spec(),
                shard,
                device.apply(backend(process)),
                BUDGETS,
                1,
                SourceResolver.DIRECTORIES,
                LoraMetrics.NONE,
                frames)));
  }

  /** A coordinator; returns its deployment. */
  public String coordinator(Vertx process, LoraGrid grid) {
    return await(process.deployVerticle(new LoraServerVerticle(grid)));
  }

  /** A process with a whole LoRA server that takes frames at {@code host}. */
  public FrameServer loraServer(LoraGrid grid, String host) {
    Vertx process = process();
    FrameServer frames = frames(process, host);
    grid.shards().forEach(shard -> shard(process, shard, Optional.of(frames)));
    coordinator(process, grid);
    return frames;
  }

  /** A base model that waits for its LoRA server. */
  public BaseModelVerticle base(Vertx process, String name, LoraGrid grid) {
    return base(process, name, grid, Duration.ofSeconds(30));
  }

  /** The same with a deadline for its steps. */
  public BaseModelVerticle base(Vertx process, String name, LoraGrid grid, Duration step) {
    return base(process, name, grid, step, Duration.ofSeconds(30));
  }

  /** The same with a time after which requests that the LoRA side cannot serve fail. */
  public BaseModelVerticle base(
      Vertx process, String name, LoraGrid grid, Duration step, Duration retry) {
    Backend backend = backend(process);
    BaseModelVerticle base =
        new BaseModelVerticle(
            name,
            BaseModel.allocate(TransformerLoader.load(checkpoint, backend), LIMITS, backend),
            LIMITS,
            1,
            new Patience(step, Duration.ofSeconds(30), retry),
            DisaggregatedLora.patientAttachment(
                name, backend, checkpoint.spec(), grid, LIMITS.maxBatchedTokens()),
            EngineMetrics.NONE);
    await(process.deployVerticle(base));
    return base;
  }

  /** Loads adapters of a model's directory through a base model, once its LoRA server is there. */
  public void load(BaseModelVerticle base, String... names) {
    for (String name : names) {
      base.adapterAdmin()
          .load(AdapterRegistration.own(name, model.resolve("adapters").resolve(name).toString()))
          .onFailure(e -> e instanceof InfiniLoraException i && i.code() == ErrorCode.UNAVAILABLE)
          .retry()
          .withBackOff(Duration.ofMillis(10), Duration.ofMillis(100))
          .expireIn(30_000)
          .await()
          .atMost(Duration.ofMinutes(1));
    }
  }

  /** Greedy tokens, whose indices must be without gap or repetition. */
  public static CompletableFuture<List<Integer>> tokens(
      BaseModelVerticle base, int[] prompt, Optional<String> adapter, int count) {
    return tokens(base, prompt, adapter, count, null);
  }

  /** The same with somebody who sees the prompt's logits, or null. */
  public static CompletableFuture<List<Integer>> tokens(
      BaseModelVerticle base,
      int[] prompt,
      Optional<String> adapter,
      int count,
      PromptObserver observer) {
    GenerateRequest request =
        new GenerateRequest(
            "r" + IDS.incrementAndGet(),
            prompt,
            adapter,
            SamplingParams.greedy(count).ignoringEos(),
            observer != null);
    List<Integer> tokens = new ArrayList<>();
    Multi<TokenEvent> events =
        observer == null ? base.generate(request) : base.generate(request, observer);
    return events
        .filter(TokenEvent.Token.class::isInstance)
        .invoke(
            event -> {
              if (((TokenEvent.Token) event).index() != tokens.size()) {
                throw new AssertionError(event + " after " + tokens);
              }
              tokens.add(((TokenEvent.Token) event).token());
            })
        .collect()
        .last()
        .map(last -> List.copyOf(tokens))
        .subscribeAsCompletionStage()
        .orTimeout(60, TimeUnit.SECONDS);
  }

  /** Lets the event loops of a process take turns until something holds. */
  public static void until(Vertx process, String what, BooleanSupplier condition) {
    long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
    while (!condition.getAsBoolean()) {
      if (System.nanoTime() - deadline > 0) {
        throw new AssertionError("never " + what);
      }
      Promise<Void> turn = Promise.promise();
      process.runOnContext(turn::complete);
      await(turn.future());
    }
  }

  /** Waits for a future, for a minute at most. */
  public static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(60, TimeUnit.SECONDS).join();
  }

  /** The last process first. */
  @Override
  public void close() {
    while (!running.isEmpty()) {
      end(running.peek());
    }
    backends.values().forEach(Backend::close);
    checkpoint.close();
  }
}
