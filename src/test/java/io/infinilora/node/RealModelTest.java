package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.metrics.EngineMetrics;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.TestInstance;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * SmolLM2-135M-Instruct against greedy tokens that transformers computed in float32 from the same
 * GGUF and the same adapters (src/test/resources/smollm2/greedy.json says with which versions).
 */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class RealModelTest {
  private final EventLoopWatch watch = new EventLoopWatch();
  private Node node;

  @BeforeAll
  void start() {
    Path model = DemoModel.path();
    Path adapters = Path.of("examples/adapters");
    node =
        Generations.await(
            Node.start(
                watch.vertx(),
                new InfiniLoraConfig(
                    Optional.of(model),
                    Files.isDirectory(adapters) ? Optional.of(adapters) : Optional.empty(),
                    LoraMode.DISAGGREGATED,
                    ServerConfig.DEFAULTS,
                    new EngineConfig(
                        Optional.of(2),
                        Optional.of(1),
                        Optional.of(2048),
                        new ByteSize(256L << 20),
                        16,
                        64,
                        256,
                        128,
                        true,
                        EngineConfig.DEFAULT_POLICY,
                        Duration.ofSeconds(60))),
                EngineMetrics.NONE));
  }

  @AfterAll
  void stop() {
    if (node != null) {
      Generations.await(node.close());
    }
    watch.assertSilent();
  }

  static Stream<JsonNode> cases() throws IOException {
    try (InputStream in = RealModelTest.class.getResourceAsStream("/smollm2/greedy.json")) {
      List<JsonNode> cases = new ArrayList<>();
      new ObjectMapper().readTree(in).required("cases").forEach(cases::add);
      return cases.stream();
    }
  }

  @ParameterizedTest
  @MethodSource("cases")
  void givesTheTokensOfAnIndependentEngine(JsonNode c) {
    List<Integer> expected = ints(c.required("generatedIds"));
    Optional<String> adapter = Optional.ofNullable(c.get("adapter")).map(JsonNode::asText);
    SamplingParams sampling = SamplingParams.greedy(expected.size()).ignoringEos();
    int[] prompt = ints(c.required("promptIds")).stream().mapToInt(Integer::intValue).toArray();
    assertThat(Generations.tokens(node.engine(), prompt, adapter, sampling).join())
        .isEqualTo(expected);
  }

  private static List<Integer> ints(JsonNode array) {
    List<Integer> values = new ArrayList<>();
    array.forEach(v -> values.add(v.asInt()));
    return values;
  }
}
