package io.infinilora.weights;

import static io.infinilora.weights.GgufBuilder.array;
import static io.infinilora.weights.GgufBuilder.int32;
import static io.infinilora.weights.GgufBuilder.int64;
import static io.infinilora.weights.GgufBuilder.join;
import static io.infinilora.weights.GgufBuilder.string;
import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Named.named;
import static org.junit.jupiter.params.provider.Arguments.arguments;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.TensorView;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class GgufFileTest {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final long[] ROW = {1, 8};
  private static final byte[] ROW_BYTES = new byte[32];

  @TempDir Path folder;

  private Path write(byte[] bytes) throws IOException {
    return Files.write(folder.resolve("model.gguf"), bytes);
  }

  @ParameterizedTest
  @ValueSource(ints = {2, 3})
  void readsEveryMetadataType(int version) throws IOException {
    GgufBuilder builder =
        new GgufBuilder()
            .version(version)
            .raw("u8", GgufValueType.UINT8, new byte[] {(byte) 200})
            .raw("i8", GgufValueType.INT8, new byte[] {-3})
            .raw("u16", GgufValueType.UINT16, new byte[] {(byte) 0xff, (byte) 0xff})
            .raw("i16", GgufValueType.INT16, new byte[] {(byte) 0xfe, (byte) 0xff})
            .raw("u32", GgufValueType.UINT32, int32(7))
            .raw("i32", GgufValueType.INT32, int32(-7))
            .float32("f32", 0.5f)
            .bool("bool", true)
            .text("text", "Grüße")
            .raw("u64", GgufValueType.UINT64, int64(1L << 20))
            .raw("i64", GgufValueType.INT64, int64(-9))
            .raw("f64", GgufValueType.FLOAT64, int64(Double.doubleToRawLongBits(0.1)))
            .texts("texts", List.of("x", ""))
            .int32s("ints", 4, 5)
            .int32s("same", 6, 6)
            .raw(
                "nested",
                GgufValueType.ARRAY,
                array(GgufValueType.ARRAY, 1, array(GgufValueType.UINT8, 1, new byte[] {1})));
    try (Arena arena = Arena.ofConfined()) {
      GgufMetadata metadata = GgufFile.open(write(builder.build()), arena).metadata();
      assertThat(metadata.integer("u8")).isEqualTo(200);
      assertThat(metadata.integer("i8")).isEqualTo(-3);
      assertThat(metadata.integer("u16")).isEqualTo(65535);
      assertThat(metadata.integer("i16")).isEqualTo(-2);
      assertThat(metadata.integer("u32")).isEqualTo(7);
      assertThat(metadata.integer("i32")).isEqualTo(-7);
      assertThat(metadata.number("f32")).isEqualTo(0.5);
      assertThat(metadata.flag("bool")).contains(true);
      assertThat(metadata.text("text")).contains("Grüße");
      assertThat(metadata.integer("u64")).isEqualTo(1 << 20);
      assertThat(metadata.integer("i64")).isEqualTo(-9);
      assertThat(metadata.number("f64")).isEqualTo(0.1);
      assertThat(metadata.texts("texts")).contains(List.of("x", ""));
      assertThat(metadata.integers("ints")).contains(List.of(4, 5));
      assertThat(metadata.integer("same")).isEqualTo(6);
      assertThat(metadata.has("nested")).isTrue();
      assertThat(metadata.integer("absent", 3)).isEqualTo(3);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "0,F32", "1,F16", "2,Q4_0", "3,Q4_1", "8,Q8_0", "12,Q4_K", "13,Q5_K", "14,Q6_K", "30,BF16"
  })
  void viewsEveryTensorTypeInPlace(int id, DType type) throws IOException {
    byte[] data = new byte[Math.toIntExact(type.bytes(3 * 256))];
    data[0] = 17;
    data[data.length - 1] = 23;
    GgufBuilder builder =
        new GgufBuilder()
            .zeros("first", 0, DType.F32, 5)
            .tensor(new GgufBuilder.Tensor("second", id, new long[] {3, 256}, data, null));
    try (Arena arena = Arena.ofConfined()) {
      GgufFile file = GgufFile.open(write(builder.build()), arena);
      TensorView view = file.view("second");
      assertThat(view.dtype()).isEqualTo(type);
      assertThat(view.shape()).containsExactly(3, 256);
      assertThat(view.data().asByteBuffer().get(0)).isEqualTo((byte) 17);
      assertThat(view.data().asByteBuffer().get(data.length - 1)).isEqualTo((byte) 23);
      assertThat(view.data().isReadOnly()).isTrue();
    }
  }

  @Test
  void honoursTheFilesAlignment() throws IOException {
    GgufBuilder builder =
        new GgufBuilder()
            .alignment(64)
            .floats("a", new long[] {3}, 1, 2, 3)
            .floats("b", new long[] {1}, 4);
    try (Arena arena = Arena.ofConfined()) {
      GgufFile file = GgufFile.open(write(builder.build()), arena);
      assertThat(file.view("a").data().getAtIndex(FLOAT, 2)).isEqualTo(3);
      assertThat(file.view("b").data().getAtIndex(FLOAT, 0)).isEqualTo(4);
    }
  }

  private static GgufBuilder sound() {
    return new GgufBuilder().text("k", "v").tensor(tensor("w", 0, ROW, null));
  }

  private static GgufBuilder.Tensor tensor(String name, int type, long[] shape, Long offset) {
    return new GgufBuilder.Tensor(name, type, shape, ROW_BYTES, offset);
  }

  private static byte[] with(String name, int type, long... shape) {
    return sound().tensor(tensor(name, type, shape, null)).build();
  }

  private static byte[] truncated(int bytes) {
    byte[] whole = sound().build();
    return Arrays.copyOf(whole, whole.length - bytes);
  }

  private static Arguments fault(String title, Supplier<byte[]> file, String... parts) {
    return arguments(named(title, file), parts);
  }

  static Stream<Arguments> malformed() {
    long[] small = {1, 4};
    return Stream.of(
        fault("empty", () -> new byte[0], "truncated"),
        fault("magic", () -> sound().magic(1).build(), "not a GGUF file"),
        fault("version 1", () -> sound().version(1).build(), "version 1"),
        fault("version 4", () -> sound().version(4).build(), "version 4"),
        fault("big-endian", () -> sound().version(3 << 24).build(), "big-endian"),
        fault("tensor count", () -> sound().tensorCount(1L << 40).build(), "tensors"),
        fault("negative tensor count", () -> sound().tensorCount(-1).build(), "tensors"),
        fault("pair count", () -> sound().pairCount(1L << 61).build(), "metadata pairs"),
        fault("too many pairs", () -> sound().pairCount(2).build(), "model.gguf"),
        fault("too few pairs", () -> sound().text("k2", "v").pairCount(1).build(), "model.gguf"),
        fault(
            "string beyond the file",
            () -> sound().raw("s", GgufValueType.STRING, int64(1L << 33)).build(),
            "metadata key s",
            "bytes of text"),
        fault(
            "negative string length",
            () -> sound().raw("s", GgufValueType.STRING, int64(-5)).build(),
            "metadata key s"),
        fault(
            "array beyond the file",
            () ->
                sound()
                    .raw("a", GgufValueType.ARRAY, array(GgufValueType.UINT8, 1L << 40, ROW_BYTES))
                    .build(),
            "metadata key a",
            "array items"),
        fault(
            "array of an unknown type",
            () -> sound().raw("a", GgufValueType.ARRAY, join(int32(99), int64(0))).build(),
            "metadata key a",
            "unknown metadata type 99"),
        fault(
            "arrays in arrays in arrays",
            () -> {
              byte[] value = array(GgufValueType.UINT8, 0, new byte[0]);
              for (int i = 0; i < 100; i++) {
                value = array(GgufValueType.ARRAY, 1, value);
              }
              return sound().raw("deep", GgufValueType.ARRAY, value).build();
            },
            "metadata key deep",
            "nests"),
        fault(
            "boolean of 2",
            () -> sound().raw("b", GgufValueType.BOOL, new byte[] {2}).build(),
            "metadata key b",
            "boolean"),
        fault(
            "key twice",
            () ->
                sound()
                    .raw("x", GgufValueType.STRING, join(string("v"), twin()))
                    .pairCount(3)
                    .build(),
            "metadata key k",
            "twice"),
        fault(
            "name too long", () -> sound().text("n".repeat(2000), "v").build(), "beyond the limit"),
        fault("alignment 0", () -> sound().uint32("general.alignment", 0).build(), "alignment"),
        fault("alignment 48", () -> sound().uint32("general.alignment", 48).build(), "alignment"),
        fault("no dimension", () -> with("bad", 0), "tensor bad", "0 dimensions"),
        fault("five dimensions", () -> with("bad", 0, 1, 1, 1, 1, 8), "tensor bad", "5 dimensions"),
        fault("negative size", () -> with("bad", 0, -1, 8), "tensor bad", "impossible shape"),
        fault("zero size", () -> with("bad", 0, 0, 8), "tensor bad", "impossible shape"),
        fault(
            "sizes overflow",
            () -> with("bad", 0, 1L << 40, 1L << 40),
            "tensor bad",
            "impossible shape"),
        fault(
            "bytes overflow", () -> with("bad", 0, 1L << 31, 1L << 31), "tensor bad", "impossible"),
        fault("half a block", () -> with("bad", 2, 1, 40), "tensor bad", "do not fill"),
        fault("unsupported type", () -> with("bad", 10, 1, 256), "tensor bad", "Q2_K", "Q4_1"),
        fault("unknown type", () -> with("bad", 1234, 1, 8), "tensor bad", "number 1234"),
        fault("larger than the file", () -> with("bad", 0, 1000, 1000), "tensor bad", "truncated"),
        fault(
            "misaligned",
            () -> sound().tensor(tensor("bad", 0, ROW, 4L)).build(),
            "tensor bad",
            "alignment"),
        fault(
            "negative offset",
            () -> sound().tensor(tensor("bad", 0, ROW, -32L)).build(),
            "tensor bad",
            "offset"),
        fault(
            "offset beyond the end",
            () -> sound().tensor(tensor("bad", 0, ROW, 1L << 50)).build(),
            "tensor bad",
            "holds 64 bytes"),
        fault(
            "overlap",
            () -> sound().tensor(tensor("bad", 0, ROW, 0L)).build(),
            "tensor",
            "overlaps"),
        fault(
            "tensor twice",
            () -> sound().tensorAgain(tensor("w", 0, ROW, null)).build(),
            "tensor w",
            "twice"),
        fault("last byte missing", () -> truncated(1), "tensor w", "truncated"),
        fault("data missing", () -> truncated(32), "tensor w", "truncated"),
        fault(
            "oversized",
            () -> join(sound().tensor(tensor("w", 0, small, null)).build(), new byte[64]),
            "follow the last tensor"));
  }

  /** A second pair with the key k. */
  private static byte[] twin() {
    return join(string("k"), int32(GgufValueType.UINT8.id()), new byte[] {1});
  }

  @ParameterizedTest
  @MethodSource("malformed")
  void refusesMalformedFiles(Supplier<byte[]> bytes, String[] parts) throws IOException {
    Path file = write(bytes.get());
    try (Arena arena = Arena.ofConfined()) {
      Faults.assertFault(
          ErrorCode.BAD_MODEL_FILE, () -> GgufFile.open(file, arena), andTheFile(file, parts));
    }
  }

  private static String[] andTheFile(Path file, String[] parts) {
    String[] all = Arrays.copyOf(parts, parts.length + 1);
    all[parts.length] = file.toString();
    return all;
  }
}
