package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.cuda.CudaProbe;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * A GPU that is lost in flight. Each case has a process of its own, since a process that lost its
 * GPU cannot use it again.
 */
@Tag("gpu")
class LostDeviceTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3_moe");
  private static final int SECONDS = 100;

  @TempDir private Path directory;

  @BeforeAll
  static void findGpu() {
    Optional<String> obstacle = CudaProbe.obstacle(0);
    Assumptions.assumeTrue(obstacle.isEmpty(), () -> obstacle.orElse(""));
  }

  @ParameterizedTest
  @CsvSource({
    "COUPLED, TRAP, running",
    "COUPLED, ADDRESS, idle",
    "COUPLED, ALIGNMENT, unnoticed",
    "DISAGGREGATED, ADDRESS, running",
    "DISAGGREGATED, TRAP, idle",
    "DISAGGREGATED, TRAP, unnoticed",
    "NONE, ALIGNMENT, running"
  })
  void requestsEndReadinessReportsItAndTheProcessEnds(String mode, String poison, String when)
      throws IOException, InterruptedException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(
        List.of(
            "--add-modules",
            "jdk.incubator.vector",
            "--enable-native-access=ALL-UNNAMED",
            "-cp",
            System.getProperty("java.class.path"),
            LostDevice.class.getName(),
            MODEL.toAbsolutePath().toString(),
            mode,
            poison,
            when));
    Path log = Files.createTempFile(directory, "lost", ".log");
    Process process =
        new ProcessBuilder(command).redirectErrorStream(true).redirectOutput(log.toFile()).start();
    try {
      boolean ended = process.waitFor(SECONDS, TimeUnit.SECONDS);
      String said = Files.readString(log);
      assertThat(ended).as(said).isTrue();
      assertThat(process.exitValue()).as(said).isZero();
    } finally {
      process.destroyForcibly();
    }
  }
}
