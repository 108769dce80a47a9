package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.ByteSource;
import io.infinilora.core.DType;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.math.BigDecimal;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Rows of weights as the device gets them. */
class WeightRowsTest {
  private static final int ROWS = 7;

  /** The largest bf16. */
  private static final float MOST = 0x1.FEp127f;

  private static final int GARBAGE = 0x55;

  private final Arena arena = Arena.ofConfined();

  @AfterEach
  void freeMemory() {
    arena.close();
  }

  @ParameterizedTest
  @EnumSource(
      value = DType.class,
      names = {"U8", "FP4"},
      mode = EnumSource.Mode.EXCLUDE)
  void everyTypeBecomesTheNearestBf16(DType dtype) {
    int cols = dtype.quantised() ? 2 * dtype.blockElements() : 37;
    WeightMatrix matrix = WeightMatrix.of(random(dtype, cols));
    check(matrix, cols + 3);
    check(matrix, cols);
  }

  @Test
  void stridesAndOrdersAreFollowed() {
    WeightMatrix matrix = WeightMatrix.of(random(DType.BF16, 40));
    check(WeightMatrix.of(matrix.tensor(), new int[] {6, 5, 0, 1, 2, 4, 3}), 40);
    check(matrix.transposed(), 8);
    check(matrix.rows(1, 2, 3), 40);
    check(matrix.cols(1, 2, 16), 16);
  }

  @Test
  void largeTransposedMatricesAreReadInPieces() {
    WeightMatrix matrix = WeightMatrix.of(random(DType.BF16, 300)).transposed();
    check(matrix, 8);
    check(new WeightMatrix(matrix.tensor(), 3, 150, 5, 2, 300, null, null), 8);
    MemorySegment square = arena.allocate(2L * 150 * 150);
    for (int i = 0; i < 150 * 150; i++) {
      square.set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * i, (short) i);
    }
    TensorView view = new TensorView("w", DType.BF16, new long[] {150, 150}, square, "this test");
    check(WeightMatrix.of(view).transposed().rows(4, 1, 139).cols(2, 1, 141), 144);
  }

  /** Halves go to the even neighbour. */
  @Test
  void roundingIsThatOfTheFormat() {
    float[] values = {1 + 0x1p-8f, 1 + 3 * 0x1p-8f, -1 - 0x1p-8f, MOST, -0f, Float.MIN_VALUE};
    assertThat(rounded(values)).containsExactly(1, 1 + 0x1p-6f, -1, MOST, -0f, 0);
  }

  @Test
  void whatBf16CannotHoldIsRefused() {
    for (float bad : new float[] {Float.NaN, Float.NEGATIVE_INFINITY, Float.MAX_VALUE}) {
      assertThatThrownBy(() -> rounded(1, bad, 2))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessageStartingWith("this test: tensor w holds " + Math.abs(bad));
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {0x7C00, 0xFC00, 0x7C01, 0xFE00})
  void float16MustBeFinite(int bits) {
    TensorView view = random(DType.F16, 37);
    view.data().set(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * (37 + 5), (short) bits);
    for (WeightMatrix matrix : List.of(WeightMatrix.of(view), WeightMatrix.of(view).transposed())) {
      assertThatThrownBy(() -> check(matrix, 40))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessageMatching("this test: tensor w holds (NaN|Infinity)");
    }
  }

  /** Whole rows without padding are read from the file, not looked up where it is mapped. */
  @Test
  void plainRowsAreReadFromTheFile() {
    MemorySegment bytes = random(DType.BF16, 40).data();
    ByteSource file = (at, into) -> into.copyFrom(bytes.asSlice(at, into.byteSize()));
    MemorySegment nothing = arena.allocate(bytes.byteSize());
    TensorView view =
        new TensorView("w", DType.BF16, new long[] {ROWS, 40}, nothing, "this test", file);
    MemorySegment into = arena.allocate(2L * 4 * 40);
    try (WeightRows rows = new WeightRows(WeightMatrix.of(view.sliceRows(1, 6)), 40)) {
      rows.write(1, 5, into);
    }
    assertThat(into.mismatch(bytes.asSlice(2L * 2 * 40, 2L * 4 * 40))).isEqualTo(-1);
  }

  @Test
  void filesThatWereCutAreFaultsOfTheTensor(@TempDir Path folder) throws IOException {
    Path path = Files.write(folder.resolve("weights"), new byte[ROWS * 4096]);
    try (FileChannel channel =
        FileChannel.open(path, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      MemorySegment mapped = channel.map(FileChannel.MapMode.READ_ONLY, 0, ROWS * 4096L, arena);
      channel.truncate(4096);
      TensorView view =
          new TensorView("w", DType.BF16, new long[] {ROWS, 2048}, mapped, path.toString());
      assertThatThrownBy(() -> check(WeightMatrix.of(view), 2048 + 8))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessageStartingWith(path + ": tensor w: cannot be read where it is mapped");
    }
  }

  private float[] rounded(float... values) {
    MemorySegment data = arena.allocateFrom(ValueLayout.JAVA_FLOAT, values);
    TensorView view =
        new TensorView("w", DType.F32, new long[] {1, values.length}, data, "this test");
    MemorySegment into = arena.allocate(2L * values.length);
    try (WeightRows rows = new WeightRows(WeightMatrix.of(view), values.length)) {
      rows.write(0, 1, into);
    }
    float[] read = new float[values.length];
    for (int i = 0; i < read.length; i++) {
      read[i] = bf16(into, i);
    }
    return read;
  }

  private TensorView random(DType dtype, int cols) {
    MemorySegment data = arena.allocate(dtype.bytes((long) ROWS * cols), 16);
    Random random = new Random(dtype.ordinal());
    for (long i = 0; i < data.byteSize(); i++) {
      // Small exponents, lest scales of 16 bits are infinite.
      data.set(ValueLayout.JAVA_BYTE, i, (byte) (random.nextInt(256) & 0xBB));
    }
    return new TensorView("w", dtype, new long[] {ROWS, cols}, data, "this test");
  }

  private void check(WeightMatrix matrix, int stride) {
    MemorySegment into = arena.allocate(2L * matrix.rows() * stride);
    into.fill((byte) GARBAGE);
    try (WeightRows rows = new WeightRows(matrix, stride)) {
      rows.write(0, 2, into);
      rows.write(2, matrix.rows(), into.asSlice(2L * 2 * stride));
    }
    RowDecoder decoder = new RowDecoder(matrix);
    MemorySegment row = arena.allocate(4L * matrix.cols(), 4);
    for (int r = 0; r < matrix.rows(); r++) {
      decoder.decode(r, row.address());
      for (int c = 0; c < stride; c++) {
        float expected = c < matrix.cols() ? row.getAtIndex(ValueLayout.JAVA_FLOAT, c) : 0;
        assertNearest(bf16(into, r * stride + c), expected);
      }
    }
  }

  /** No neighbour in bf16 is nearer. */
  private static void assertNearest(float actual, float expected) {
    int bits = Float.floatToRawIntBits(actual);
    BigDecimal error = distance(actual, expected);
    assertThat(error).isLessThanOrEqualTo(distance(Float.intBitsToFloat(bits + 0x10000), expected));
    if ((bits & 0x7FFFFFFF) != 0) {
      assertThat(error)
          .isLessThanOrEqualTo(distance(Float.intBitsToFloat(bits - 0x10000), expected));
    } else {
      assertThat(Math.abs(expected)).isLessThanOrEqualTo(Float.MIN_NORMAL);
    }
  }

  /** Exact: what is tiny beside the other counts, too. */
  private static BigDecimal distance(float a, float b) {
    return new BigDecimal(a).subtract(new BigDecimal(b)).abs();
  }

  private static float bf16(MemorySegment data, int index) {
    return Float.intBitsToFloat(data.get(ValueLayout.JAVA_SHORT_UNALIGNED, 2L * index) << 16);
  }
}
