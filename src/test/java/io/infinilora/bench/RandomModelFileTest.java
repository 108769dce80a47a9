package io.infinilora.bench;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.Backend;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import java.io.IOException;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** The file that loading is measured with. */
class RandomModelFileTest {
  @TempDir Path folder;

  @Test
  void aModelIsWrittenToADirectoryThatIsMade() throws IOException {
    Path directory = folder.resolve("none/yet");
    RandomModelFile.write(directory, 2, 32);
    try (Checkpoint checkpoint = Checkpoints.open(directory);
        Backend backend = new CpuBackend()) {
      assertThat(TransformerLoader.load(checkpoint, backend).spec().layers()).isEqualTo(2);
    }
  }
}
