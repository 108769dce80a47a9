package io.infinilora.weights;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class UpcyclingTest {

  private static final Upcycling UPCYCLING = new Upcycling(3, 2, 5);

  @TempDir Path folder;
  private Path out;

  @BeforeEach
  void place() {
    out = folder.resolve("out");
  }

  private static Path fixture(String name) {
    return TinyModel.FIXTURES.resolve(name);
  }

  private static void assertSameBytes(WeightMatrix a, WeightMatrix b) {
    assertThat(a.dtype()).isEqualTo(b.dtype());
    assertThat(a.rowOrder()).isEqualTo(b.rowOrder());
    assertThat(bytes(a)).isEqualTo(bytes(b));
  }

  /** The bytes of a matrix whose rows follow each other. */
  private static byte[] bytes(WeightMatrix matrix) {
    assertThat(matrix.contiguous()).isTrue();
    assertThat(matrix.rowStride()).isEqualTo(matrix.cols());
    DType type = matrix.dtype();
    long length = type.bytes((long) matrix.rows() * matrix.cols());
    return matrix
        .tensor()
        .data()
        .asSlice(type.bytes(matrix.offset()), length)
        .toArray(ValueLayout.JAVA_BYTE);
  }

  private static void assertSameBytes(TensorView a, TensorView b) {
    assertThat(a.data().mismatch(b.data())).isEqualTo(-1);
  }

  /** Everything but the MLP is the dense model's, and every expert is its MLP. */
  private static void assertUpcycled(Checkpoint dense, Checkpoint routed) {
    ModelSpec from = dense.spec();
    ModelSpec to = routed.spec();
    assertThat(to)
        .isEqualTo(
            new ModelSpec(
                "mixtral",
                from.layers(),
                from.hidden(),
                from.vocab(),
                from.maxPositions(),
                from.attention(),
                new ModelSpec.Mlp(
                    from.mlp().intermediate(),
                    from.mlp().activation(),
                    new ModelSpec.Moe(3, 2, true, true, false, false)),
                from.norm(),
                from.normEps(),
                from.rope(),
                from.tiedEmbeddings(),
                from.bosToken(),
                from.eosTokens()));
    assertSameBytes(routed.matrix(Param.LM_HEAD, 0), dense.matrix(Param.LM_HEAD, 0));
    assertSameBytes(routed.vector(Param.FINAL_NORM, 0), dense.vector(Param.FINAL_NORM, 0));
    for (int layer = 0; layer < from.layers(); layer++) {
      for (Param param : List.of(Param.Q, Param.K, Param.V, Param.O)) {
        assertSameBytes(routed.matrix(param, layer), dense.matrix(param, layer));
      }
      assertSameBytes(routed.vector(Param.MLP_NORM, layer), dense.vector(Param.MLP_NORM, layer));
      for (Param param : List.of(Param.GATE, Param.UP, Param.DOWN)) {
        for (int expert = 0; expert < 3; expert++) {
          assertSameBytes(routed.matrix(param, layer, expert), dense.matrix(param, layer));
        }
      }
    }
  }

  @ParameterizedTest
  @ValueSource(strings = {"llama", "llama3_rope", "mistral"})
  void everyExpertIsTheDenseMlp(String model) {
    UPCYCLING.write(fixture(model), out);
    try (Checkpoint dense = Checkpoints.open(fixture(model));
        Checkpoint routed = Checkpoints.open(out)) {
      assertUpcycled(dense, routed);
    }
  }

  @Test
  void ggufKeepsItsMetadataAndTypes() {
    GgufBuilder builder =
        TinyGguf.of("llama")
            .alignment(64)
            .uint32("llama.expert_count", 0)
            .floats("rope_freqs.weight", new long[] {4}, 1, 1, 2, 8) // needs padding
            .removeTensor("output_norm.weight")
            .floats("output_norm.weight", new long[] {16}, 3, 1, 4)
            .tensor(
                new GgufBuilder.Tensor(
                    "blk.0.ffn_down.weight",
                    3,
                    new long[] {16, 32},
                    TinyGptOss.bytes(16 * 20, 7),
                    null));
    Path model = builder.write(folder.resolve("dense.gguf"));
    UPCYCLING.write(model, out);
    try (Checkpoint dense = Checkpoints.open(model);
        Checkpoint routed = Checkpoints.open(out)) {
      assertUpcycled(dense, routed);
      assertThat(routed.matrix(Param.DOWN, 0, 2).dtype()).isEqualTo(DType.Q4_1);
      assertThat(routed.describe()).startsWith("mixtral, GGUF");
      assertThat(routed.text()).isEqualTo(dense.text());
      assertThat(routed.text().vocabulary()).isPresent();
    }
  }

  @Test
  void routersAreRandomButReproducible() throws IOException {
    UPCYCLING.write(fixture("llama"), out);
    UPCYCLING.write(fixture("llama"), folder.resolve("again"));
    String file = "model.safetensors";
    assertThat(folder.resolve("again").resolve(file)).hasSameBinaryContentAs(out.resolve(file));
    try (Checkpoint routed = Checkpoints.open(out)) {
      Set<Float> weights = new HashSet<>();
      for (int layer = 0; layer < 2; layer++) {
        WeightMatrix router = routed.matrix(Param.ROUTER, layer);
        for (int i = 0; i < 3 * 64; i++) {
          float weight = RawTensors.element(router.tensor(), i);
          assertThat(weight).isBetween(-0.125f, 0.125f);
          weights.add(weight);
        }
      }
      assertThat(weights).hasSizeGreaterThan(380);
    }
  }

  @Test
  void theTokenizerComesAlong() throws IOException {
    Path model = TinyModel.copy("llama", Files.createDirectory(folder.resolve("model")));
    Files.writeString(model.resolve("tokenizer.json"), "{}");
    Files.writeString(model.resolve("chat_template.jinja"), "{{ messages }}");
    Files.writeString(model.resolve("notes.bin"), "not text");
    UPCYCLING.write(model, out);
    try (Checkpoint routed = Checkpoints.open(out)) {
      assertThat(routed.text().tokenizerJson()).contains(out.resolve("tokenizer.json"));
      assertThat(routed.text().chatTemplate()).contains("{{ messages }}");
    }
    assertThat(out.resolve("notes.bin")).doesNotExist();
    assertThat(out.resolve("generation_config.json")).exists();
  }

  @Test
  void refusesOtherModelsPlacesAndNumbers() throws IOException {
    Faults.assertFault(
        ErrorCode.UNSUPPORTED_MODEL, () -> UPCYCLING.write(fixture("qwen3"), out), "is a qwen3");
    Faults.assertFault(
        ErrorCode.UNSUPPORTED_MODEL, () -> UPCYCLING.write(fixture("mixtral"), out), "a mixtral");
    assertThat(out).doesNotExist();
    Files.writeString(out, "mine");
    Faults.assertFault(
        ErrorCode.BAD_CONFIG, () -> UPCYCLING.write(fixture("llama"), out), "out: exists already");
    assertThat(out).hasContent("mine");
    Path nowhere = folder.resolve("absent").resolve("out");
    Faults.assertFault(
        ErrorCode.BAD_MODEL_FILE,
        () -> UPCYCLING.write(fixture("llama"), nowhere),
        nowhere + ": cannot be written");
    Faults.assertFault(ErrorCode.BAD_CONFIG, () -> new Upcycling(0, 1, 1), "experts is 0");
    Faults.assertFault(ErrorCode.BAD_CONFIG, () -> new Upcycling(4, 5, 1), "top-k is 5");
  }
}
