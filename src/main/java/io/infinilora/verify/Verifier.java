package io.infinilora.verify;

import io.infinilora.cluster.ClusterNode;
import io.infinilora.config.ByteSize;
import io.infinilora.config.ClusterConfig;
import io.infinilora.config.DeviceConfig;
import io.infinilora.config.DeviceKind;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.Role;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.Engine;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.node.Node;
import io.vertx.core.Vertx;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.CompletionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Consumer;

/**
 * Runs fixtures through a whole node: every case for its logits and greedy tokens, then the mixed
 * batch at once. Blocks; not for event loops.
 */
public final class Verifier {
  private static final Duration PATIENCE = Duration.ofMinutes(2);
  private static final long KV_BYTES = 16L << 20;
  private static final long ADAPTER_BYTES = 64L << 20;
  // Small, so that the longer prompts of the fixtures go through several chunks and share steps.
  private static final int BATCHED_TOKENS = 64;
  private static final int PREFILL_CHUNK = 24;

  /** How long adapters of a running cluster may take to become known. */
  private static final Duration ADAPTER_PATIENCE = Duration.ofSeconds(30);

  private static final long ADAPTER_POLL_MILLIS = 50;

  private final LoraMode mode;
  private final LoraGrid shards;
  private final DeviceConfig device;
  private final Optional<ClusterConfig> cluster;

  /** A verifier for one LoRA mode with an undivided LoRA server. */
  public Verifier(LoraMode mode) {
    this(mode, LoraGrid.SINGLE);
  }

  /**
   * A verifier for one LoRA mode. In mode {@code none} only cases without an adapter are run.
   *
   * @param shards how the LoRA server is divided in mode {@code disaggregated}
   */
  public Verifier(LoraMode mode, LoraGrid shards) {
    this(mode, shards, DeviceConfig.DEFAULTS, Optional.empty());
  }

  private Verifier(
      LoraMode mode, LoraGrid shards, DeviceConfig device, Optional<ClusterConfig> cluster) {
    this.mode = mode;
    this.shards = shards;
    this.device = device;
    this.cluster = cluster;
  }

  /** The same on another device. */
  public Verifier on(DeviceConfig other) {
    return new Verifier(mode, shards, other, cluster);
  }

  /**
   * A verifier with a base model of its own and the LoRA server of a running cluster, which must
   * serve the fixture's model and adapters. Takes no requests of the cluster's gateways.
   *
   * @param shards how that LoRA server is divided
   */
  public static Verifier of(ClusterConfig cluster, LoraGrid shards) {
    return new Verifier(
        LoraMode.DISAGGREGATED, shards, DeviceConfig.DEFAULTS, Optional.of(cluster));
  }

  /**
   * Verifies all fixtures below {@code root}.
   *
   * @param filter only folders whose name contains it; empty for all
   * @param sink gets each result at once
   * @return number of failures
   * @throws InfiniLoraException BAD_CONFIG if there is no fixture
   */
  public int verify(Path root, Optional<String> filter, Consumer<CaseResult> sink) {
    List<Path> found =
        Fixture.find(root).stream()
            .filter(p -> filter.isEmpty() || p.getFileName().toString().contains(filter.get()))
            .toList();
    if (found.isEmpty()) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "%s holds no fixture%s"
              .formatted(root, filter.map(f -> " whose name contains " + f).orElse("")));
    }
    int[] failures = {0};
    for (Path directory : found) {
      verifyOne(
          directory,
          result -> {
            failures[0] += result.status() == CaseResult.Status.FAIL ? 1 : 0;
            sink.accept(result);
          });
    }
    return failures[0];
  }

  private void verifyOne(Path directory, Consumer<CaseResult> sink) {
    String name = directory.getFileName().toString();
    Vertx vertx = vertx();
    Node node = null;
    try {
      Fixture fixture = Fixture.read(directory);
      node = await(Node.start(vertx, settings(directory), EngineMetrics.NONE));
      for (InfiniLoraException refused : node.adapterReport().failures()) {
        sink.accept(CaseResult.fail(name, "load", Double.NaN, refused.getMessage()));
      }
      Arithmetic arithmetic =
          device.kind() != DeviceKind.CPU
              ? Arithmetic.BF16
              : cluster.isPresent() ? Arithmetic.BF16_ROWS : Arithmetic.FLOAT32;
      if (cluster.isPresent()) {
        awaitAdapters(fixture, node.engine());
      }
      new FixtureRun(fixture, node.engine(), mode, arithmetic, sink).run();
    } catch (RuntimeException e) {
      Throwable cause = e instanceof CompletionException && e.getCause() != null ? e.getCause() : e;
      sink.accept(
          cause instanceof InfiniLoraException i && i.code() == ErrorCode.UNSUPPORTED_MODEL
              ? CaseResult.skip(name, cause.getMessage())
              : CaseResult.fail(name, "load", Double.NaN, cause.toString()));
    } finally {
      await(node == null ? vertx.close() : node.close());
    }
  }

  private Vertx vertx() {
    return cluster
        .map(
            where ->
                await(
                    ClusterNode.join(
                        Vertx.builder().with(ClusterNode.options(where)),
                        where,
                        where.node().orElse("verify"))))
        .orElseGet(Vertx::vertx);
  }

  /** The cluster says a moment after it was joined what it has. */
  private static void awaitAdapters(Fixture fixture, Engine engine) {
    Set<String> missing = new TreeSet<>();
    fixture.cases().forEach(c -> c.adapter().ifPresent(missing::add));
    long deadline = System.nanoTime() + ADAPTER_PATIENCE.toNanos();
    while (missing.removeIf(name -> engine.adapter(name).isPresent()) || !missing.isEmpty()) {
      if (System.nanoTime() - deadline > 0) {
        throw new InfiniLoraException(
            ErrorCode.BAD_CONFIG,
            "the cluster's LoRA server has no adapter named " + String.join(", ", missing));
      }
      LockSupport.parkNanos(TimeUnit.MILLISECONDS.toNanos(ADAPTER_POLL_MILLIS));
    }
  }

  private InfiniLoraConfig settings(Path directory) {
    InfiniLoraConfig alone = settingsAlone(directory);
    return cluster.map(where -> alone.withRole(Role.BASE, where)).orElse(alone);
  }

  private InfiniLoraConfig settingsAlone(Path directory) {
    Path adapters = directory.resolve("adapters");
    int threads = Runtime.getRuntime().availableProcessors();
    return new InfiniLoraConfig(
            Optional.of(directory),
            Files.isDirectory(adapters) ? Optional.of(adapters) : Optional.empty(),
            mode,
            ServerConfig.DEFAULTS,
            new EngineConfig(
                Optional.of(threads),
                Optional.of(1),
                Optional.empty(),
                new ByteSize(KV_BYTES),
                16,
                64,
                BATCHED_TOKENS,
                PREFILL_CHUNK,
                true,
                EngineConfig.DEFAULT_POLICY,
                Duration.ofSeconds(30)))
        .withLora(
            new LoraConfig(
                new ByteSize(ADAPTER_BYTES),
                new ByteSize(0),
                Eviction.LRU,
                shards,
                Duration.ofSeconds(30),
                LoraConfig.DEFAULT_RETRY_FOR))
        .withDevice(device);
  }

  private static <T> T await(io.vertx.core.Future<T> future) {
    return future
        .toCompletionStage()
        .toCompletableFuture()
        .orTimeout(PATIENCE.toSeconds(), TimeUnit.SECONDS)
        .join();
  }
}
