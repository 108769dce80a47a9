package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Vectors as the device gets them. */
class VectorValuesTest {
  private final Arena arena = Arena.ofConfined();

  @AfterEach
  void freeMemory() {
    arena.close();
  }

  @ParameterizedTest
  @EnumSource(
      value = DType.class,
      names = {"F32", "F16", "BF16", "Q8_0"})
  void valuesAreThoseOfTheDecoder(DType dtype) {
    int size = 64;
    // Not aligned: it begins anywhere in a file.
    MemorySegment data = arena.allocate(1 + dtype.bytes(size)).asSlice(1);
    Random random = new Random(dtype.ordinal());
    for (long i = 0; i < data.byteSize(); i++) {
      // Small exponents.
      data.set(ValueLayout.JAVA_BYTE, i, (byte) (random.nextInt(256) & 0xBB));
    }
    TensorView view = new TensorView("v", dtype, new long[] {size}, data, "this test");
    MemorySegment expected = arena.allocate(4L * size, 4);
    new RowDecoder(WeightMatrix.of(view)).decode(0, expected.address());
    assertThat(VectorValues.of(view)).isEqualTo(expected.toArray(ValueLayout.JAVA_FLOAT));
  }

  @Test
  void valuesMustBeFinite() {
    for (float bad : new float[] {Float.NaN, Float.NEGATIVE_INFINITY}) {
      MemorySegment data = arena.allocateFrom(ValueLayout.JAVA_FLOAT, 1, bad);
      TensorView view = new TensorView("v", DType.F32, new long[] {2}, data, "this test");
      assertThatThrownBy(() -> VectorValues.of(view))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessage("this test: tensor v holds " + Math.abs(bad));
    }
  }

  @ParameterizedTest
  @EnumSource(
      value = DType.class,
      names = {"F32", "BF16", "Q8_0"})
  void filesThatWereCutAreFaultsOfTheTensor(DType dtype, @TempDir Path folder) throws IOException {
    int size = 32 * 4096;
    Path path = Files.write(folder.resolve("weights"), new byte[(int) dtype.bytes(size)]);
    try (FileChannel channel =
        FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      MemorySegment data = channel.map(FileChannel.MapMode.READ_ONLY, 0, dtype.bytes(size), arena);
      channel.truncate(4096);
      TensorView view = new TensorView("v", dtype, new long[] {size}, data, path.toString());
      assertThatThrownBy(() -> VectorValues.of(view))
          .isInstanceOfSatisfying(
              InfiniLoraException.class,
              e -> assertThat(e.code()).isEqualTo(ErrorCode.BAD_MODEL_FILE))
          .hasMessageStartingWith(path + ": tensor v: cannot be read where it is mapped");
    }
  }
}
