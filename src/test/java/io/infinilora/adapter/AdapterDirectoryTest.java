package io.infinilora.adapter;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraTarget;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class AdapterDirectoryTest {
  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");

  @TempDir Path folder;

  private Path add(String name, String fixture, String adapter) throws IOException {
    Path to = Files.createDirectory(folder.resolve(name));
    Path from = FIXTURES.resolve(fixture).resolve("adapters").resolve(adapter);
    for (String file : new String[] {"adapter_config.json", "adapter_model.safetensors"}) {
      Files.copy(from.resolve(file), to.resolve(file));
    }
    return to;
  }

  @Test
  void refusesBadAdaptersAndLoadsTheOthers() throws IOException {
    add("a-good", "llama", "a0");
    add("b-experts", "gpt_oss", "a2");
    Path broken = add("c-pattern", "llama", "a2").resolve("adapter_config.json");
    Files.writeString(
        broken,
        Files.readString(broken)
            .replaceFirst("\"rank_pattern\": \\{", "\"rank_pattern\": {\"(\": 1, "));
    add("d-good", "llama", "a1");
    try (Checkpoint model = Checkpoints.open(FIXTURES.resolve("llama"));
        CpuBackend backend = new CpuBackend();
        AdapterStore store = new AdapterStore(model.spec(), backend)) {
      AdapterDirectory.Report report = AdapterDirectory.load(folder, store);
      assertThat(report.loaded())
          .extracting(a -> a.id().name())
          .containsExactly("a-good", "d-good");
      assertThat(report.loaded().getLast().targets()).containsExactly(LoraTarget.values());
      assertThat(report.failures())
          .extracting(InfiniLoraException::getMessage)
          .satisfiesExactly(
              m -> assertThat(m).contains("b-experts", "target_parameters", "gate_up_proj"),
              m -> assertThat(m).contains("c-pattern", "rank_pattern", "\"(\""));
    }
  }
}
