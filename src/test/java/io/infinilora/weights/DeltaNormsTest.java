package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import io.infinilora.core.DeltaNorm;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Norms of changes against those of the products written out. */
class DeltaNormsTest {
  private static final Path FIXTURES = Path.of("src/test/resources/fixtures");

  @ParameterizedTest
  @CsvSource({"qwen3,a0", "qwen3,a1", "llama,a2", "mixtral,a0", "gpt_oss,a1"})
  void areThoseOfTheWholeProducts(String model, String name) {
    ModelSpec spec;
    try (Checkpoint checkpoint = Checkpoints.open(FIXTURES.resolve(model))) {
      spec = checkpoint.spec();
    }
    Path directory = FIXTURES.resolve(model).resolve("adapters").resolve(name);
    try (PeftAdapter adapter = PeftAdapter.open(directory, spec)) {
      List<DeltaNorm> norms = DeltaNorms.of(adapter, module -> true);

      assertThat(norms.stream().mapToInt(DeltaNorm::pairs).sum())
          .isEqualTo(adapter.modules().size());
      for (DeltaNorm norm : norms) {
        double squares =
            adapter.modules().stream()
                .filter(m -> m.layer() == norm.layer() && m.target() == norm.target())
                .mapToDouble(m -> squares(adapter.factors(m)))
                .sum();
        assertThat(norm.norm()).isPositive();
        assertThat(norm.norm()).isCloseTo(Math.sqrt(squares), within(1e-9 * Math.sqrt(squares)));
      }
    }
  }

  private static double squares(LoraFactors pair) {
    double sum = 0;
    for (int o = 0; o < pair.b().rows(); o++) {
      for (int i = 0; i < pair.a().cols(); i++) {
        double w = 0;
        for (int r = 0; r < pair.a().rows(); r++) {
          w += value(pair.b(), o, r) * value(pair.a(), r, i);
        }
        sum += Math.pow(w * pair.scale(), 2);
      }
    }
    return sum;
  }

  private static double value(WeightMatrix m, int row, int col) {
    long at = m.element(row) + col * m.colStride();
    return switch (m.dtype()) {
      case F32 -> m.tensor().data().get(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * at);
      case F16 ->
          Float.float16ToFloat(m.tensor().data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * at));
      default ->
          Float.intBitsToFloat(
              m.tensor().data().get(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * at) << 16);
    };
  }
}
