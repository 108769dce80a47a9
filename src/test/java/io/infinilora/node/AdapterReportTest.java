package io.infinilora.node;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.LoraTarget;
import io.infinilora.metrics.EngineMetrics;
import io.vertx.core.Vertx;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

class AdapterReportTest {
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

  @ParameterizedTest
  @EnumSource(names = {"COUPLED", "DISAGGREGATED"})
  void refusesBadAdaptersAndLoadsTheOthers(LoraMode mode) throws IOException {
    add("a-good", "llama", "a0");
    add("b-experts", "gpt_oss", "a2");
    Path broken = add("c-pattern", "llama", "a2").resolve("adapter_config.json");
    Files.writeString(
        broken,
        Files.readString(broken)
            .replaceFirst("\"rank_pattern\": \\{", "\"rank_pattern\": {\"(\": 1, "));
    add("d-good", "llama", "a1");
    Node node =
        start(
            new InfiniLoraConfig(
                Optional.of(FIXTURES.resolve("llama")),
                Optional.of(folder),
                mode,
                ServerConfig.DEFAULTS,
                EngineConfig.DEFAULTS));
    try {
      AdapterReport report = node.adapterReport();
      assertThat(report.loaded())
          .extracting(a -> a.id().name())
          .containsExactly("a-good", "d-good");
      assertThat(report.loaded().getLast().targets()).containsExactly(LoraTarget.values());
      assertThat(report.failures())
          .extracting(InfiniLoraException::getMessage)
          .satisfiesExactly(
              m -> assertThat(m).contains("b-experts", "target_parameters", "gate_up_proj"),
              m -> assertThat(m).contains("c-pattern", "rank_pattern", "\"(\""));
      assertThat(node.engine().adapters())
          .extracting(AdapterId::name)
          .containsExactly("a-good", "d-good");
    } finally {
      node.close().toCompletionStage().toCompletableFuture().join();
    }
  }

  private static Node start(InfiniLoraConfig config) {
    return Node.start(Vertx.vertx(), config, EngineMetrics.NONE)
        .toCompletionStage()
        .toCompletableFuture()
        .join();
  }
}
