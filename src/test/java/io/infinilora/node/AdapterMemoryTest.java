package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Adapters that are larger together than their memory are all served. */
class AdapterMemoryTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/mixtral");
  private static final int REQUESTS = 32;
  private static final String[] ADAPTERS = {null, "a0", "a1", "a2"};

  @ParameterizedTest
  @CsvSource({"COUPLED, 0", "DISAGGREGATED, 0", "COUPLED, 1", "DISAGGREGATED, 1"})
  void adaptersTakeTurnsInMemoryForOne(LoraMode mode, int hostMebibytes) {
    long largest;
    List<List<Integer>> alone = new ArrayList<>();
    try (Served roomy = new Served(mode, 64L << 20, hostMebibytes)) {
      largest = roomy.statuses().stream().mapToLong(AdapterStatus::deviceBytes).max().orElseThrow();
      for (int i = 0; i < REQUESTS; i++) {
        alone.add(roomy.tokens(i).join());
      }
    }
    try (Served tight = new Served(mode, largest, hostMebibytes)) {
      List<CompletableFuture<List<Integer>>> together = new ArrayList<>();
      for (int i = 0; i < REQUESTS; i++) {
        together.add(tight.tokens(i));
      }
      for (int i = 0; i < REQUESTS; i++) {
        assertThat(together.get(i).join()).as("request " + i).isEqualTo(alone.get(i));
      }
      assertThat(tight.node.engine().load().adaptersInUse()).isZero();
      // Leases are returned by messages that may be on their way.
      while (tight.statuses().stream().anyMatch(a -> a.claims() > 0)) {
        Thread.onSpinWait();
      }
      assertThat(tight.statuses().stream().filter(a -> a.tier() == AdapterStatus.Tier.DEVICE))
          .hasSizeLessThanOrEqualTo(2);
    }
  }

  /** A node with its adapters. */
  private static final class Served implements AutoCloseable {
    private final EventLoopWatch watch = new EventLoopWatch();
    private final Node node;
    private int requests;

    Served(LoraMode mode, long deviceBytes, int hostMebibytes) {
      node =
          Node.start(
                  watch.vertx(),
                  settings(mode)
                      .withLora(
                          new LoraConfig(
                              new ByteSize(deviceBytes),
                              ByteSize.mebibytes(hostMebibytes),
                              Eviction.GREEDY_DUAL,
                              LoraGrid.SINGLE,
                              Duration.ofMinutes(1),
                              LoraConfig.DEFAULT_RETRY_FOR)),
                  EngineMetrics.NONE)
              .toCompletionStage()
              .toCompletableFuture()
              .join();
      assertThat(node.adapterReport().failures()).isEmpty();
    }

    List<AdapterStatus> statuses() {
      return node.engine().adapterAdmin().list().await().atMost(Duration.ofMinutes(1));
    }

    CompletableFuture<List<Integer>> tokens(int i) {
      int vocab = node.engine().model().vocab();
      return node.engine()
          .generate(
              new GenerateRequest(
                  "r" + requests++,
                  new Random(i).ints(5 + i % 30, 3, vocab).toArray(),
                  Optional.ofNullable(ADAPTERS[i % ADAPTERS.length]),
                  SamplingParams.greedy(8).ignoringEos()))
          .filter(TokenEvent.Token.class::isInstance)
          .map(event -> ((TokenEvent.Token) event).token())
          .collect()
          .asList()
          .subscribeAsCompletionStage()
          .orTimeout(60, TimeUnit.SECONDS);
    }

    private static InfiniLoraConfig settings(LoraMode mode) {
      return new InfiniLoraConfig(
          Optional.of(MODEL),
          Optional.of(MODEL.resolve("adapters")),
          mode,
          ServerConfig.DEFAULTS,
          new EngineConfig(
              Optional.of(2),
              Optional.of(1),
              Optional.empty(),
              ByteSize.mebibytes(4),
              8,
              64,
              64,
              16,
              true,
              EngineConfig.DEFAULT_POLICY,
              Duration.ofSeconds(60)));
    }

    @Override
    public void close() {
      node.close().toCompletionStage().toCompletableFuture().join();
      watch.assertSilent();
    }
  }
}
