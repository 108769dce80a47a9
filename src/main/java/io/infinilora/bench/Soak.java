package io.infinilora.bench;

import io.infinilora.config.ByteSize;
import io.infinilora.config.DeviceConfig;
import io.infinilora.config.DeviceKind;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.AdapterMemoryStats;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.node.Node;
import io.smallrye.mutiny.subscription.Cancellable;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.LocalTime;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;
import java.util.stream.Stream;

/**
 * Random requests, cancellations, and adapters that come and go, for some minutes; then everything
 * is taken away and whatever is still held is an error.
 *
 * <p>Usage: {@code Soak MODEL_DIRECTORY SECONDS cpu|cuda MODE}; adapters are in the model's
 * directory {@code adapters}. Exit code 1 if anything is left or a request failed.
 */
public final class Soak {
  private static final int MAX_ACTIVE = 48;
  private static final int MAX_PROMPT = 200;
  private static final int MAX_TOKENS = 40;
  private static final Duration PATIENCE = Duration.ofSeconds(20);

  /** Generations of adapters under names of their own, so that loads and unloads never stop. */
  private static final int NAMES = 12;

  /** Requests before the memory in use is noted. */
  private static final int SETTLING = 16;

  private final Node node;
  private final Map<String, Supplier<AdapterMemoryStats>> memory;
  private final List<Path> adapters;
  private final Random random = new Random(1);
  private final AtomicLong done = new AtomicLong();
  private final AtomicLong cancelled = new AtomicLong();
  private final AtomicLong refused = new AtomicLong();
  private final AtomicLong failed = new AtomicLong();
  private final AtomicLong tokens = new AtomicLong();
  private final AtomicLong active = new AtomicLong();
  private long loads;
  private long unloads;

  private Soak(Node node, Map<String, Supplier<AdapterMemoryStats>> memory, List<Path> adapters) {
    this.node = node;
    this.memory = memory;
    this.adapters = adapters;
  }

  /** Runs it. */
  public static void main(String[] args) throws IOException {
    Path model = Path.of(args[0]);
    int seconds = Integer.parseInt(args[1]);
    DeviceKind kind = DeviceKind.valueOf(args[2].toUpperCase(Locale.ROOT));
    LoraMode mode = LoraMode.valueOf(args[3].toUpperCase(Locale.ROOT));
    List<Path> adapters;
    try (Stream<Path> found = Files.list(model.resolve("adapters"))) {
      adapters = found.sorted().toList();
    }
    boolean clean = false;
    try {
      clean = run(model, adapters, seconds, kind, mode);
    } catch (RuntimeException e) {
      e.printStackTrace(); // Threads of the node would keep a failed process alive.
    }
    System.exit(clean ? 0 : 1);
  }

  /** Runs it on a model; whether nothing was left and nothing failed. */
  static boolean run(Path model, List<Path> adapters, int seconds, DeviceKind kind, LoraMode mode) {
    Map<String, Supplier<AdapterMemoryStats>> memory = new ConcurrentHashMap<>();
    EngineMetrics metrics =
        new EngineMetrics() {
          @Override
          public void watchMemory(String shard, Supplier<AdapterMemoryStats> stats) {
            memory.put(shard, stats);
          }
        };
    Node node =
        await(
            Node.start(Vertx.vertx(), settings(model, kind, mode), metrics)
                .toCompletionStage()
                .toCompletableFuture());
    boolean clean = new Soak(node, memory, adapters).run(seconds);
    await(node.close().toCompletionStage().toCompletableFuture());
    return clean;
  }

  private static InfiniLoraConfig settings(Path model, DeviceKind kind, LoraMode mode) {
    return new InfiniLoraConfig(
            Optional.of(model),
            Optional.of(model.resolve("adapters")),
            mode,
            ServerConfig.DEFAULTS,
            new EngineConfig(
                Optional.of(1),
                Optional.of(1),
                Optional.empty(),
                // Little, so that requests are preempted.
                Optional.of(new ByteSize(2 << 20)),
                16,
                256,
                128,
                64,
                true,
                EngineConfig.DEFAULT_POLICY,
                Duration.ofSeconds(30)))
        .withDevice(new DeviceConfig(kind, 0, Optional.of(new ByteSize(4L << 30))));
  }

  private boolean run(int seconds) {
    settle();
    Map<String, Long> used = node.backend().usedMemory();
    Map<String, Long> seen = used;
    long start = System.nanoTime();
    long end = start + TimeUnit.SECONDS.toNanos(seconds);
    Deque<String> names = new ArrayDeque<>();
    while (System.nanoTime() < end) {
      Map<String, Long> now = node.backend().usedMemory();
      if (!now.equals(seen)) {
        System.out.printf("%tT device memory: %s, was %s%n", LocalTime.now(), now, seen);
        seen = now;
      }
      if (random.nextInt(40) == 0) {
        changeAdapters(names);
      }
      if (active.get() < MAX_ACTIVE) {
        request();
      }
      LockSupport.parkNanos((long) (-Math.log(1 - random.nextDouble()) * 2e6));
    }
    boolean idle = awaitIdle();
    List.copyOf(node.engine().adapters()).forEach(adapter -> unload(adapter.name()));
    boolean clean = true;
    clean &= expect("requests are gone", idle);
    EngineLoad load = node.engine().load();
    clean &= expect("KV blocks are back: " + load, load.kvBlocksUsed() == 0 && load.running() == 0);
    for (Map.Entry<String, Supplier<AdapterMemoryStats>> shard : memory.entrySet()) {
      awaitFree(shard.getValue());
      AdapterMemoryStats stats = shard.getValue().get();
      clean &=
          expect(
              "adapter memory of %s is back: %s".formatted(shard.getKey(), stats),
              stats.device().bytes() == 0 && stats.host().bytes() == 0 && stats.registered() == 0);
    }
    Map<String, Long> left = node.backend().usedMemory();
    clean &= expect("device memory is as before: %s, %s".formatted(used, left), left.equals(used));
    clean &= expect("no request failed", failed.get() == 0);
    System.out.printf(
        "%d s: %d requests done, %d cancelled, %d refused, %d failed, %d tokens, %d loads, %d unloads%n",
        seconds,
        done.get(),
        cancelled.get(),
        refused.get(),
        failed.get(),
        tokens.get(),
        loads,
        unloads);
    return clean;
  }

  /**
   * Runs steps with and without an adapter, since the first ones set memory aside for those that
   * follow.
   */
  private void settle() {
    Deque<String> names = new ArrayDeque<>();
    changeAdapters(names);
    for (int i = 0; i < SETTLING; i++) {
      request();
    }
    awaitIdle();
    names.forEach(this::unload);
  }

  private static boolean expect(String what, boolean holds) {
    System.out.println((holds ? "ok    " : "WRONG ") + what);
    return holds;
  }

  private void changeAdapters(Deque<String> names) {
    if (names.size() >= NAMES || (!names.isEmpty() && random.nextInt(3) == 0)) {
      unload(names.removeFirst());
      return;
    }
    String name = "soak-" + loads;
    Path source = adapters.get(random.nextInt(adapters.size()));
    await(
        node.adapters()
            .load(new AdapterLoad(name, source.toString(), false, false, false, true))
            .subscribeAsCompletionStage());
    names.addLast(name);
    loads++;
  }

  private void unload(String name) {
    await(node.adapters().unload(name, WhenInUse.WAIT).subscribeAsCompletionStage());
    unloads++;
  }

  private void request() {
    List<AdapterId> known = node.engine().adapters();
    Optional<String> adapter =
        known.isEmpty() || random.nextInt(4) == 0
            ? Optional.empty()
            : Optional.of(known.get(random.nextInt(known.size())).name());
    int[] prompt =
        random.ints(1 + random.nextInt(MAX_PROMPT), 0, node.engine().model().vocab()).toArray();
    SamplingParams params = SamplingParams.greedy(1 + random.nextInt(MAX_TOKENS)).ignoringEos();
    int patience = random.nextInt(5) == 0 ? random.nextInt(MAX_TOKENS) : Integer.MAX_VALUE;
    AtomicLong seen = new AtomicLong();
    active.incrementAndGet();
    Cancellable[] stream = new Cancellable[1];
    stream[0] =
        node.engine()
            .generate(
                new GenerateRequest(
                    "soak-" + done.get() + "-" + random.nextLong(), prompt, adapter, params))
            .onCancellation()
            .invoke(
                () -> {
                  cancelled.incrementAndGet();
                  active.decrementAndGet();
                })
            .subscribe()
            .with(
                event -> {
                  tokens.incrementAndGet();
                  if (seen.incrementAndGet() > patience && stream[0] != null) {
                    stream[0].cancel();
                  }
                },
                failure -> {
                  // An adapter may go between the choice and the admission.
                  if (adapter.isPresent()
                      && String.valueOf(failure.getMessage()).contains(adapter.get())) {
                    refused.incrementAndGet();
                  } else {
                    failed.incrementAndGet();
                    System.out.println("failed: " + failure);
                  }
                  active.decrementAndGet();
                },
                () -> {
                  done.incrementAndGet();
                  active.decrementAndGet();
                });
  }

  /** Memory comes back a moment after an unloading is answered. */
  private static void awaitFree(Supplier<AdapterMemoryStats> stats) {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (stats.get().device().bytes() + stats.get().host().bytes() > 0
        && System.nanoTime() < deadline) {
      LockSupport.parkNanos(1_000_000);
    }
  }

  private boolean awaitIdle() {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    while (System.nanoTime() < deadline) {
      EngineLoad load = node.engine().load();
      if (active.get() == 0 && load.running() == 0 && load.waiting() == 0) {
        return true;
      }
      LockSupport.parkNanos(1_000_000);
    }
    return false;
  }

  private static <T> T await(CompletableFuture<T> future) {
    return future.orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS).join();
  }
}
