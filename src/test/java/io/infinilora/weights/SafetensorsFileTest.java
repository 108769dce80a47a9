package io.infinilora.weights;

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
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

class SafetensorsFileTest {

  @TempDir Path folder;

  private SafetensorsFile open(byte[] bytes, Arena arena) throws IOException {
    Path file = Files.write(folder.resolve("model.safetensors"), bytes);
    return SafetensorsFile.open(file, ErrorCode.BAD_MODEL_FILE, arena);
  }

  @Test
  void viewsPlainTensorsAndKeepsOthersUnread() throws IOException {
    byte[] bytes =
        new SafetensorsBuilder()
            .filled("f32", 2.5f, 2, 3)
            .raw("f16", "F16", new byte[4], 2)
            .raw("bf16", "BF16", new byte[8], 2, 2)
            .raw("scalar", "F32", new byte[4])
            .raw("ids", "I64", new byte[16], 2)
            .build();
    try (Arena arena = Arena.ofConfined()) {
      SafetensorsFile file = open(bytes, arena);
      assertThat(file.names()).containsExactly("f32", "f16", "bf16", "scalar", "ids");
      TensorView view = file.view("f32");
      assertThat(view.dtype()).isEqualTo(DType.F32);
      assertThat(view.shape()).containsExactly(2, 3);
      assertThat(view.data().getAtIndex(ValueLayout.JAVA_FLOAT_UNALIGNED, 5)).isEqualTo(2.5f);
      assertThat(file.view("f16").dtype()).isEqualTo(DType.F16);
      assertThat(file.view("bf16").dtype()).isEqualTo(DType.BF16);
      assertThat(file.view("scalar").shape()).isEmpty();
      assertThat(file.supported("ids")).isFalse();
      Faults.assertFault(
          ErrorCode.BAD_MODEL_FILE, () -> file.view("ids"), "tensor ids", "I64", "BF16");
    }
  }

  @Test
  void refusesToViewMisalignedTensors() throws IOException {
    byte[] bytes =
        new SafetensorsBuilder().raw("odd", "U8", new byte[1], 1).filled("w", 1, 1).build();
    try (Arena arena = Arena.ofConfined()) {
      SafetensorsFile file = open(bytes, arena);
      Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> file.view("w"), "tensor w", "not aligned");
    }
  }

  private static Arguments fault(String title, byte[] file, String... parts) {
    return arguments(named(title, file), parts);
  }

  /** A file with two words of data whose tensor w is described so. */
  private static byte[] described(String fields) {
    return SafetensorsBuilder.file("{\"w\":" + fields + "}", new byte[8]);
  }

  private static byte[] at(String dtype, String shape, String offsets) {
    return described(
        "{\"dtype\":\"%s\",\"shape\":%s,\"data_offsets\":%s}".formatted(dtype, shape, offsets));
  }

  private static byte[] two(String first, String second) {
    return SafetensorsBuilder.file(
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":%s},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":%s}}"
            .formatted(first, second),
        new byte[8]);
  }

  static Stream<Arguments> malformed() {
    byte[] sound = new SafetensorsBuilder().filled("w", 1, 2).build();
    return Stream.of(
        fault("empty", new byte[0], "truncated"),
        fault("seven bytes", new byte[7], "truncated"),
        fault("header length 0", new byte[64], "header of 0 bytes"),
        fault(
            "header beyond the file",
            GgufBuilder.join(GgufBuilder.int64(1000), new byte[20]),
            "header of 1000 bytes"),
        fault(
            "negative header length",
            GgufBuilder.join(GgufBuilder.int64(-1), new byte[20]),
            "header of 18446744073709551615 bytes"),
        fault("garbage", SafetensorsBuilder.file("{\"w\":oops}", new byte[8]), "not valid JSON"),
        fault("binary garbage", GgufBuilder.join(GgufBuilder.int64(8), new byte[8]), "JSON"),
        fault("a list", SafetensorsBuilder.file("[1, 2]", new byte[8]), "not a JSON object"),
        fault("endless nesting", SafetensorsBuilder.file("[".repeat(100_000), new byte[0]), "JSON"),
        fault("two objects", SafetensorsBuilder.file("{}{}", new byte[0]), "not valid JSON"),
        fault(
            "name twice",
            SafetensorsBuilder.file("{\"w\":null,\"w\":null}", new byte[0]),
            "Duplicate",
            "w"),
        fault("null", described("null"), "tensor w"),
        fault("a number", described("3"), "w is 3"),
        fault("no dtype", described("{\"shape\":[2],\"data_offsets\":[0,8]}"), "tensor w", "dtype"),
        fault("no shape", described("{\"dtype\":\"F32\",\"data_offsets\":[0,8]}"), "w", "shape"),
        fault("no offsets", described("{\"dtype\":\"F32\",\"shape\":[2]}"), "w", "data_offsets"),
        fault("negative size", at("F32", "[-2]", "[0,8]"), "tensor w", "shape"),
        fault("fractional size", at("F32", "[2.5]", "[0,8]"), "tensor w", "shape"),
        fault("huge size", at("F32", "[99999999999999999999]", "[0,8]"), "tensor w", "shape"),
        fault(
            "sizes overflow",
            at("F32", "[4294967296,4294967296]", "[0,8]"),
            "tensor w",
            "impossible shape"),
        fault("shape and bytes differ", at("F32", "[3]", "[0,8]"), "tensor w", "needs 12"),
        fault("backwards", at("F32", "[2]", "[8,0]"), "tensor w", "data_offsets"),
        fault("three offsets", at("F32", "[2]", "[0,4,8]"), "tensor w", "data_offsets"),
        fault("beyond the end", at("F32", "[4]", "[0,16]"), "tensor w", "holds 8 bytes"),
        fault("far beyond", at("I64", "[1]", "[0,9223372036854775807]"), "tensor w", "holds 8"),
        fault("overlap", two("[0,4]", "[0,4]"), "tensor b", "overlaps a"),
        fault("gap before", at("F32", "[1]", "[4,8]"), "tensor w", "gap of 4"),
        fault("bytes left over", at("F32", "[1]", "[0,4]"), "4 bytes follow", "w"),
        fault("last byte missing", Arrays.copyOf(sound, sound.length - 1), "tensor w", "holds 7"),
        fault("oversized", Arrays.copyOf(sound, sound.length + 1), "1 bytes follow"));
  }

  @ParameterizedTest
  @MethodSource("malformed")
  void refusesMalformedFiles(byte[] bytes, String[] parts) {
    try (Arena arena = Arena.ofConfined()) {
      Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> open(bytes, arena), parts);
      Faults.assertFault(ErrorCode.BAD_MODEL_FILE, () -> open(bytes, arena), "model.safetensors");
    }
  }
}
