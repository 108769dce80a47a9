package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.tuple;
import static org.assertj.core.api.Assertions.within;

import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.Eviction;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.LoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.DeltaNorm;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.metrics.EngineMetrics;
import io.vertx.core.Vertx;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A LoRA server that is divided gives what an undivided one gives, bit for bit. */
class LoraShardsTest {
  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");
  private static final int PROMPT = 37;

  @ParameterizedTest
  @CsvSource({
    "llama, 2x2",
    "llama, 3x1",
    "mixtral, 2x2",
    "mixtral, 3x1",
    "qwen3_moe, 2x2",
    "qwen3_moe, 1x2",
    "gpt_oss, 2x2",
    "dbrx, 3x2"
  })
  void logitsDoNotDependOnTheGrid(String fixture, String grid) {
    float[][][] whole = logits(fixture, LoraGrid.SINGLE);
    float[][][] divided = logits(fixture, LoraGrid.parse(grid));
    for (int adapter = 0; adapter < whole.length; adapter++) {
      for (int position = 0; position < PROMPT; position++) {
        assertThat(divided[adapter][position])
            .as("logits of a%d at position %d", adapter, position)
            .isEqualTo(whole[adapter][position]);
      }
    }
    assertThat(whole[0][PROMPT - 1]).isNotEqualTo(whole[1][PROMPT - 1]);
  }

  @ParameterizedTest
  @CsvSource({"mixtral, 2x2", "llama, 2x2", "dbrx, 3x2"})
  void whatAnAdapterChangesDoesNotDependOnTheGrid(String fixture, String grid) {
    List<DeltaNorm> whole = norms(fixture, LoraGrid.SINGLE);
    List<DeltaNorm> divided = norms(fixture, LoraGrid.parse(grid));
    assertThat(divided)
        .extracting(DeltaNorm::layer, DeltaNorm::target, DeltaNorm::pairs)
        .containsExactlyElementsOf(
            whole.stream().map(n -> tuple(n.layer(), n.target(), n.pairs())).toList());
    for (int i = 0; i < whole.size(); i++) {
      assertThat(divided.get(i).norm()).isCloseTo(whole.get(i).norm(), within(1e-9));
    }
  }

  private static List<DeltaNorm> norms(String fixture, LoraGrid grid) {
    Path model = FIXTURES.resolve(fixture);
    Node node =
        Node.start(Vertx.vertx(), settings(model, grid), EngineMetrics.NONE)
            .toCompletionStage()
            .toCompletableFuture()
            .join();
    try {
      String source = model.resolve("adapters/a1").toString();
      return node.adapters()
          .load(new AdapterLoad("x", source, false, false, true, false))
          .await()
          .atMost(Duration.ofMinutes(1))
          .norms();
    } finally {
      node.close().toCompletionStage().toCompletableFuture().join();
    }
  }

  /** Of each position of a prompt, on each of three adapters. */
  private static float[][][] logits(String fixture, LoraGrid grid) {
    Path model = FIXTURES.resolve(fixture);
    Node node =
        Node.start(Vertx.vertx(), settings(model, grid), EngineMetrics.NONE)
            .toCompletionStage()
            .toCompletableFuture()
            .join();
    try {
      assertThat(node.adapterReport().failures()).isEmpty();
      float[][][] logits = new float[3][PROMPT][];
      int vocab = node.engine().model().vocab();
      int[] prompt = new Random(7).ints(PROMPT, 3, vocab).toArray();
      for (int a = 0; a < logits.length; a++) {
        float[][] seen = logits[a];
        node.engine()
            .generate(
                new GenerateRequest(
                    "r" + a, prompt, Optional.of("a" + a), SamplingParams.greedy(4), true),
                (position, row) -> seen[position] = row.clone())
            .collect()
            .last()
            .await()
            .atMost(Duration.ofMinutes(1));
      }
      return logits;
    } finally {
      node.close().toCompletionStage().toCompletableFuture().join();
    }
  }

  private static InfiniLoraConfig settings(Path model, LoraGrid grid) {
    return new InfiniLoraConfig(
            Optional.of(model),
            Optional.of(model.resolve("adapters")),
            LoraMode.DISAGGREGATED,
            ServerConfig.DEFAULTS,
            new EngineConfig(
                Optional.of(2),
                Optional.of(1),
                Optional.empty(),
                ByteSize.mebibytes(4),
                4,
                8,
                64,
                16,
                false,
                EngineConfig.DEFAULT_POLICY,
                Duration.ofSeconds(60)))
        .withLora(
            new LoraConfig(
                ByteSize.mebibytes(32),
                new ByteSize(0),
                Eviction.LRU,
                grid,
                Duration.ofSeconds(60),
                LoraConfig.DEFAULT_RETRY_FOR));
  }
}
