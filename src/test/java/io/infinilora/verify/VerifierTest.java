package io.infinilora.verify;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.verify.CaseResult.Status;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** Every reference fixture through the whole engine in every LoRA mode, and that faults show. */
class VerifierTest {
  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");

  @TempDir Path folder;

  static Stream<Arguments> everyFixtureInEveryMode() {
    return Fixture.find(FIXTURES).stream()
        .flatMap(
            directory ->
                Stream.of(LoraMode.values())
                    .map(mode -> Arguments.of(directory.getFileName().toString(), mode)));
  }

  private static List<CaseResult> verify(Path fixture, LoraMode mode) {
    List<CaseResult> results = new ArrayList<>();
    int failures = new Verifier(mode).verify(fixture, Optional.empty(), results::add);
    assertThat(results).filteredOn(r -> r.status() == Status.FAIL).hasSize(failures);
    return results;
  }

  @ParameterizedTest
  @MethodSource("everyFixtureInEveryMode")
  void givesWhatAnIndependentImplementationGives(String name, LoraMode mode) {
    Fixture fixture = Fixture.read(FIXTURES.resolve(name));

    List<CaseResult> results = verify(fixture.directory(), mode);

    assertThat(results).allMatch(r -> r.status() == Status.PASS);
    List<String> expected = new ArrayList<>();
    for (Fixture.Case c : fixture.cases()) {
      if (mode != LoraMode.NONE || c.adapter().isEmpty()) {
        expected.add(c.name());
      }
    }
    for (Fixture.Mixed r : fixture.mixedBatch()) {
      if (mode != LoraMode.NONE || r.adapter().isEmpty()) {
        expected.add("mixed." + r.id());
      }
    }
    assertThat(results).extracting(CaseResult::name).containsExactlyElementsOf(expected);
  }

  @Test
  void theFixturesCoverEveryArchitecture() throws IOException {
    List<String> types = new ArrayList<>();
    for (Path fixture : Fixture.find(FIXTURES)) {
      types.add(
          Files.readString(fixture.resolve("config.json"))
              .replaceFirst("(?s).*\"model_type\": \"(\\w+)\".*", "$1"));
    }
    assertThat(types)
        .contains("llama", "mistral", "qwen2", "qwen3", "mixtral", "qwen3_moe", "gpt_oss", "dbrx");
  }

  private Path copy(String fixture) throws IOException {
    Path from = FIXTURES.resolve(fixture);
    try (Stream<Path> files = Files.walk(from)) {
      for (Path file : files.toList()) {
        Files.copy(file, folder.resolve(fixture).resolve(from.relativize(file).toString()));
      }
    }
    return folder.resolve(fixture);
  }

  private static void replace(Path file, String what, String with) throws IOException {
    String text = Files.readString(file);
    assertThat(text).contains(what);
    Files.writeString(file, text.replace(what, with));
  }

  @Test
  void aLogitThatIsOffIsAFailure() throws IOException {
    Path fixture = copy("mixtral_odd");
    Path logits = fixture.resolve("expected.safetensors");
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(logits)).order(ByteOrder.LITTLE_ENDIAN);
    int at = bytes.capacity() - Float.BYTES;
    bytes.putFloat(at, bytes.getFloat(at) + 3e-3f);
    Files.write(logits, bytes.array());

    assertThat(verify(fixture, LoraMode.COUPLED))
        .filteredOn(r -> r.status() != Status.PASS)
        .singleElement()
        .satisfies(
            r -> {
              assertThat(r.worstError()).isBetween(2.9e-3, 3.1e-3);
              assertThat(r.detail()).contains("logits differ by more than 0.002");
            });
  }

  @Test
  void aTokenThatIsOffIsAFailure() throws IOException {
    Path fixture = copy("mixtral_odd");
    Fixture.Mixed request = Fixture.read(fixture).mixedBatch().get(2);
    int last = request.expected()[15];
    Path mixed = fixture.resolve("mixed_batch.json");
    String expected = request.expected()[14] + ", " + last + "]";
    replace(mixed, expected, request.expected()[14] + ", " + (last - 1) + "]");

    assertThat(verify(fixture, LoraMode.DISAGGREGATED))
        .filteredOn(r -> r.status() != Status.PASS)
        .singleElement()
        .satisfies(
            r -> {
              assertThat(r.name()).isEqualTo("mixed.r2");
              assertThat(r.detail()).contains("tokens differ at step 15");
            });
  }

  @Test
  void anAdapterThatIsRefusedIsAFailure() throws IOException {
    Path fixture = copy("mixtral_odd");
    replace(fixture.resolve("adapters/a1/adapter_config.json"), "\"LORA\"", "\"IA3\"");

    List<CaseResult> results = verify(fixture, LoraMode.DISAGGREGATED);

    assertThat(results.getFirst().name()).isEqualTo("load");
    assertThat(results.getFirst().detail()).contains("adapters/a1", "peft_type");
    assertThat(results)
        .filteredOn(r -> r.status() == Status.PASS)
        .extracting(CaseResult::name)
        .contains("base.p3", "a0.p3", "a2.p3", "mixed.r0")
        .doesNotContain("a1.p3");
  }

  @Test
  void aFolderWithoutFixturesIsAnError() {
    assertThatThrownBy(() -> verify(folder, LoraMode.NONE))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageContaining("holds no fixture");
  }
}
