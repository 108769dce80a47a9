package io.infinilora.bench;

import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.node.Node;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.stream.Stream;

/**
 * Time to the first token on an adapter that is in device memory and on one that is not, as the
 * adapter grows. Layers are loaded while earlier ones compute; for comparison stands what it would
 * take to load the whole adapter first: the time of that load alone, plus the warm figure.
 *
 * <p>Usage: {@code ColdStartBench MODEL PROMPT_TOKENS RANK...}
 */
public final class ColdStartBench {
  private static final int ROUNDS = 7;
  private static final int WARM_UPS = 3;

  private final Node node;
  private final AdapterAdmin admin;
  private final int promptTokens;
  private final Random random = new Random(1);
  private int requests;

  private ColdStartBench(Node node, int promptTokens) {
    this.node = node;
    this.admin = node.engine().adapterAdmin();
    this.promptTokens = promptTokens;
  }

  /** Runs the benchmark and prints a table. */
  public static void main(String[] args) throws IOException {
    Path model = Path.of(args[0]);
    Node node =
        Node.start(Vertx.vertx(), settings(model), EngineMetrics.NONE)
            .toCompletionStage()
            .toCompletableFuture()
            .join();
    Path folder = Files.createTempDirectory("cold-start");
    try {
      ColdStartBench bench = new ColdStartBench(node, Integer.parseInt(args[1]));
      System.out.printf(
          "%-6s %10s %12s %12s %12s %14s %10s%n",
          "rank", "MB", "warm ms", "cold ms", "load ms", "load+warm ms", "cold/warm");
      for (int i = 2; i < args.length; i++) {
        bench.measure(folder, Integer.parseInt(args[i]));
      }
    } finally {
      node.close().toCompletionStage().toCompletableFuture().join();
      delete(folder);
    }
  }

  private static InfiniLoraConfig settings(Path model) {
    return new InfiniLoraConfig(
            Optional.of(model),
            Optional.empty(),
            LoraMode.DISAGGREGATED,
            ServerConfig.DEFAULTS,
            new EngineConfig(
                Optional.empty(),
                Optional.of(1),
                Optional.of(1024),
                EngineConfig.DEFAULT_KV_MEMORY,
                16,
                64,
                512,
                512,
                false,
                EngineConfig.DEFAULT_POLICY,
                Duration.ofSeconds(60)))
        .withLora(
            new LoraConfig(
                ByteSize.mebibytes(1024),
                new ByteSize(0),
                Eviction.LRU,
                LoraGrid.SINGLE,
                Duration.ofSeconds(60),
                LoraConfig.DEFAULT_RETRY_FOR));
  }

  private void measure(Path folder, int rank) throws IOException {
    List<Double> warm = new ArrayList<>();
    List<Double> cold = new ArrayList<>();
    List<Double> load = new ArrayList<>();
    double megabytes = 0;
    for (int round = -WARM_UPS; round < ROUNDS; round++) {
      String name = "rank%d-%d".formatted(rank, round + WARM_UPS);
      Path directory = folder.resolve(name);
      RandomAdapter.write(directory, node.engine().model(), rank, round);
      AdapterStatus status = load(name, directory);
      megabytes = status.deviceBytes() / 1e6;
      double first = firstToken(name);
      double again = firstToken(name);
      admin.unload(name, AdapterAdmin.WhenInUse.WAIT).await().indefinitely();
      // Registered again, it is on disk only: its whole load, with nothing computing beside it.
      String alone = name + "-alone";
      load(alone, directory);
      double whole = wholeLoad(alone);
      admin.unload(alone, AdapterAdmin.WhenInUse.WAIT).await().indefinitely();
      if (round >= 0) {
        cold.add(first);
        warm.add(again);
        load.add(whole);
      }
    }
    double w = median(warm);
    double c = median(cold);
    double l = median(load);
    System.out.printf(
        "%-6d %10.1f %12.1f %12.1f %12.1f %14.1f %10.2f%n", rank, megabytes, w, c, l, l + w, c / w);
  }

  private AdapterStatus load(String name, Path directory) {
    return admin
        .load(AdapterRegistration.own(name, directory.toString()))
        .await()
        .indefinitely()
        .status();
  }

  private double firstToken(String adapter) {
    int[] prompt = random.ints(promptTokens, 0, node.engine().model().vocab()).toArray();
    long begun = System.nanoTime();
    node.engine()
        .generate(
            new GenerateRequest(
                "cold-" + requests++,
                prompt,
                Optional.of(adapter),
                SamplingParams.greedy(1).ignoringEos()))
        .filter(TokenEvent.Token.class::isInstance)
        .collect()
        .last()
        .await()
        .atMost(Duration.ofMinutes(2));
    return (System.nanoTime() - begun) / 1e6;
  }

  /** A prefetch, until the last layer is there. */
  private double wholeLoad(String adapter) {
    long begun = System.nanoTime();
    admin.prefetch(adapter).await().indefinitely();
    while (admin.list().await().indefinitely().stream()
        .noneMatch(a -> a.id().name().equals(adapter) && a.tier() == AdapterStatus.Tier.DEVICE)) {
      Thread.onSpinWait();
    }
    return (System.nanoTime() - begun) / 1e6;
  }

  private static double median(List<Double> values) {
    double[] sorted = values.stream().mapToDouble(Double::doubleValue).toArray();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }

  private static void delete(Path folder) throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      files.sorted((a, b) -> b.compareTo(a)).forEach(f -> f.toFile().delete());
    }
  }
}
