package io.infinilora.verify;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraShard;
import io.infinilora.core.TensorView;
import io.infinilora.engine.BaseModelVerticle;
import io.infinilora.engine.PromptObserver;
import io.infinilora.fake.Processes;
import io.infinilora.fake.Rounding;
import io.infinilora.lora.FrameServer;
import io.infinilora.weights.SafetensorsFile;
import io.vertx.core.Vertx;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

/** Every reference fixture with its LoRA server in another process. */
class FramesFixtureTest {
  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");

  /** Of the norm of a prompt's logits: rows travel with 8 bits of mantissa. */
  private static final double TOLERANCE = 2.1e-2;

  /**
   * Where the two best tokens are closer than the rounding, as in float32 3.509 and 3.493, which it
   * moves by 0.013.
   */
  private static final Map<String, Integer> NEAR_TIES =
      Map.of("gpt_oss_odd r4", 7, "gpt_oss_odd r7", 9, "qwen3_moe_odd a0.p2", 8);

  static Stream<String> fixtures() {
    return Fixture.find(FIXTURES).stream().map(path -> path.getFileName().toString());
  }

  @ParameterizedTest
  @MethodSource("fixtures")
  void givesWhatAnIndependentImplementationGives(String name) {
    try (Processes processes = new Processes(FIXTURES.resolve(name))) {
      BaseModelVerticle base = processes.base(processes.process(), "base", LoraGrid.SINGLE);
      processes.loraServer(LoraGrid.SINGLE, "127.0.0.1");
      verify(processes, base, Fixture.read(FIXTURES.resolve(name)));
    }
  }

  @ParameterizedTest
  @CsvSource({"gpt_oss, 2x2", "mixtral, 2x2", "dbrx, 3x2", "llama, 2x2"})
  void aDividedServerGivesIt(String name, String written) {
    LoraGrid grid = LoraGrid.parse(written);
    try (Processes processes = new Processes(FIXTURES.resolve(name))) {
      BaseModelVerticle base = processes.base(processes.process(), "base", grid);
      processes.loraServer(grid, "127.0.0.1");
      verify(processes, base, Fixture.read(FIXTURES.resolve(name)));
    }
  }

  /** Terms of {@code down} come from shards on both sides. */
  @ParameterizedTest
  @CsvSource({"gpt_oss, 2x2", "mixtral, 3x1"})
  void aServerThatIsPartlyHereGivesIt(String name, String written) {
    LoraGrid grid = LoraGrid.parse(written);
    try (Processes processes = new Processes(FIXTURES.resolve(name))) {
      Vertx there = processes.process();
      FrameServer frames = processes.frames(there, "127.0.0.1");
      Vertx here = processes.process();
      BaseModelVerticle base = processes.base(here, "base", grid);
      for (LoraShard shard : grid.shards()) {
        boolean far = shard.expertShard() == 1;
        processes.shard(far ? there : here, shard, far ? Optional.of(frames) : Optional.empty());
      }
      processes.coordinator(there, grid);
      verify(processes, base, Fixture.read(FIXTURES.resolve(name)));
    }
  }

  /** Bit for bit what one process gives whose LoRA server rounds as frames do. */
  @ParameterizedTest
  @CsvSource({
    "qwen3, 1x1",
    "gpt_oss_odd, 1x1",
    "qwen3_moe_odd, 1x1",
    "mixtral_odd, 2x2",
    "dbrx_odd, 3x2",
  })
  void nothingDiffersButTheRounding(String name, String written) {
    LoraGrid grid = LoraGrid.parse(written);
    Fixture fixture = Fixture.read(FIXTURES.resolve(name));
    List<List<?>> results = new ArrayList<>();
    for (boolean together : new boolean[] {true, false}) {
      try (Processes processes = new Processes(FIXTURES.resolve(name))) {
        Vertx process = processes.process();
        BaseModelVerticle base = processes.base(process, "base", grid);
        if (together) {
          grid.shards().forEach(s -> processes.shard(process, s, Optional.empty(), Rounding::of));
          processes.coordinator(process, grid);
        } else {
          processes.loraServer(grid, "127.0.0.1");
        }
        processes.load(base, "a0", "a1", "a2");
        results.add(logitsAndTokens(base, fixture));
      }
    }
    assertThat(results.get(1)).usingRecursiveComparison().isEqualTo(results.get(0));
  }

  private static List<?> logitsAndTokens(BaseModelVerticle base, Fixture fixture) {
    List<Object> all = new ArrayList<>();
    for (Fixture.Mixed r : fixture.mixedBatch()) {
      float[][] logits = new float[r.prompt().length][];
      all.add(
          Processes.tokens(
                  base,
                  r.prompt(),
                  r.adapter(),
                  r.expected().length,
                  (position, row) -> logits[position] = row.clone())
              .join());
      all.add(logits);
    }
    return all;
  }

  private static void verify(Processes processes, BaseModelVerticle base, Fixture fixture) {
    processes.load(base, "a0", "a1", "a2");
    try (Arena arena = Arena.ofShared()) {
      SafetensorsFile expected =
          SafetensorsFile.open(
              fixture.directory().resolve("expected.safetensors"), ErrorCode.BAD_CONFIG, arena);
      for (Fixture.Case c : fixture.cases()) {
        TensorView logits = expected.view(c.logitsKey());
        int first = c.allPositions() ? 0 : c.prompt().length - 1;
        Error error = new Error(logits, first);
        List<Integer> tokens =
            Processes.tokens(base, c.prompt(), c.adapter(), c.greedy().length, error).join();
        assertThat(error.relative()).as("error of %s", c.name()).isLessThan(TOLERANCE);
        if (c.adapter().isPresent()) {
          assertThat(error.relative()).as("%s is rounded", c.name()).isGreaterThan(1e-5);
        }
        assertStarts(fixture, c.name(), tokens, c.greedy());
      }
    }
    List<CompletableFuture<List<Integer>>> mixed = new ArrayList<>();
    for (Fixture.Mixed r : fixture.mixedBatch()) {
      mixed.add(Processes.tokens(base, r.prompt(), r.adapter(), r.expected().length));
    }
    for (int i = 0; i < mixed.size(); i++) {
      Fixture.Mixed r = fixture.mixedBatch().get(i);
      assertStarts(fixture, r.id(), mixed.get(i).join(), r.expected());
    }
  }

  private static void assertStarts(
      Fixture fixture, String name, List<Integer> tokens, int[] expected) {
    int count = NEAR_TIES.getOrDefault(fixture.name() + " " + name, expected.length);
    assertThat(tokens.subList(0, count))
        .as("%s, but %s", name, tokens)
        .isEqualTo(list(expected).subList(0, count));
  }

  private static List<Integer> list(int[] values) {
    return Arrays.stream(values).boxed().toList();
  }

  /** Euclidean distance of a prompt's logits over the norm of what is expected. */
  private static final class Error implements PromptObserver {
    private final TensorView expected;
    private final int first;
    private int seen;
    private double distance;
    private double norm;

    Error(TensorView expected, int first) {
      this.expected = expected;
      this.first = first;
    }

    @Override
    public void logits(int position, float[] logits) {
      if (position < first) {
        return;
      }
      seen++;
      long row = (long) (position - first) * expected.cols();
      for (int i = 0; i < expected.cols(); i++) {
        double e = expected.data().getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, row + i);
        distance += (logits[i] - e) * (logits[i] - e);
        norm += e * e;
      }
    }

    double relative() {
      return seen == expected.rows() ? Math.sqrt(distance / norm) : Double.POSITIVE_INFINITY;
    }
  }
}
