package io.infinilora.cli;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.cuda.CudaProbe;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What clients see of a GPU that is lost, in a process of its own. */
@Tag("gpu")
class LostServerTest {
  private static final int SECONDS = 100;

  @TempDir private Path directory;

  @BeforeAll
  static void findGpu() {
    Optional<String> obstacle = CudaProbe.obstacle(0);
    Assumptions.assumeTrue(obstacle.isEmpty(), () -> obstacle.orElse(""));
  }

  @Test
  void theStreamEndsWithTheReasonAndReadinessIsGone() throws Exception {
    Path log = directory.resolve("log");
    Process process =
        new ProcessBuilder(
                Path.of(System.getProperty("java.home"), "bin", "java").toString(),
                "--add-modules=jdk.incubator.vector",
                "--enable-native-access=ALL-UNNAMED",
                "-cp",
                System.getProperty("java.class.path"),
                LostServer.class.getName(),
                Path.of("src/test/resources/fixtures/qwen3_moe").toAbsolutePath().toString())
            .redirectErrorStream(true)
            .redirectOutput(log.toFile())
            .start();
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
