package io.infinilora.cli;

import io.infinilora.backend.cuda.Gpu;
import io.infinilora.fake.ChildProcess;
import java.nio.file.Path;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What clients see of a GPU that is lost, in a process of its own. */
@Tag("gpu")
class LostServerTest {
  @TempDir private Path directory;

  @BeforeAll
  static void findGpu() {
    Gpu.require();
  }

  @Test
  void theStreamEndsWithTheReasonAndReadinessIsGone() throws Exception {
    ChildProcess.endsWell(
        LostServer.class,
        directory,
        Path.of("src/test/resources/fixtures/qwen3_moe").toAbsolutePath().toString());
  }
}
