package io.infinilora.bench;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.config.DeviceKind;
import io.infinilora.core.LoraMode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** A short soak: nothing may be left of requests and adapters that came and went. */
class SoakTest {
  private static final Path MODEL = Path.of("src/test/resources/fixtures/qwen3_moe_odd");
  private static final int SECONDS = 2;

  @ParameterizedTest
  @EnumSource(names = {"COUPLED", "DISAGGREGATED"})
  void everythingComesBack(LoraMode mode) throws IOException {
    List<Path> adapters;
    try (Stream<Path> found = Files.list(MODEL.resolve("adapters"))) {
      adapters = found.sorted().toList();
    }
    assertThat(Soak.run(MODEL, adapters, SECONDS, DeviceKind.CPU, mode)).isTrue();
  }
}
