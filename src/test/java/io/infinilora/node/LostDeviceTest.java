package io.infinilora.node;

import io.infinilora.backend.cuda.Gpu;
import io.infinilora.fake.ChildProcess;
import java.io.IOException;
import java.nio.file.Path;
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

  @TempDir private Path directory;

  @BeforeAll
  static void findGpu() {
    Gpu.require();
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
    ChildProcess.endsWell(
        LostDevice.class, directory, MODEL.toAbsolutePath().toString(), mode, poison, when);
  }
}
