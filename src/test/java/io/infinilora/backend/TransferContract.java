package io.infinilora.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.reference.ReferenceExperts;
import io.infinilora.core.ModelSpec;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.math.BigDecimal;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Rows and routing that go to another process and come from one. */
public abstract class TransferContract extends LoraMemoryContract {
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;

  /** Values whose rounding is a matter of its own: ties, overflow, subnormals, no numbers. */
  private static final float[] SPECIAL = {
    0f,
    -0f,
    1f,
    Float.intBitsToFloat(0x3F808000), // Between two neighbours; the lower is even.
    Float.intBitsToFloat(0x3F818000), // The upper is.
    Float.intBitsToFloat(0x3F808001),
    Float.intBitsToFloat(0xBF807FFF),
    Float.MAX_VALUE, // Becomes infinite.
    -Float.MAX_VALUE,
    Float.MIN_VALUE,
    Float.intBitsToFloat(0x00008000),
    Float.intBitsToFloat(0x80018000),
    Float.POSITIVE_INFINITY,
    Float.NEGATIVE_INFINITY,
    Float.NaN,
    Float.intBitsToFloat(0x7F800001), // Would be infinite if its lower half were cut off.
    Float.intBitsToFloat(0xFFFFFFFF), // Would be 0 if it were rounded.
  };

  /** The definition: of the two neighbours the nearer, of equally near ones the even one. */
  private static short nearest(float value) {
    int bits = Float.floatToRawIntBits(value);
    int below = bits >>> 16;
    if (Float.isNaN(value) || Float.isInfinite(value)) {
      return (short) (Float.isNaN(value) ? below | 0x40 : below);
    }
    BigDecimal x = new BigDecimal(value).abs();
    BigDecimal low = exact(below & 0x7FFF);
    BigDecimal high = exact((below & 0x7FFF) + 1);
    int side = x.subtract(low).compareTo(high.subtract(x));
    return (short) (side < 0 || (side == 0 && (below & 1) == 0) ? below : below + 1);
  }

  /** A positive bf16's value; that of infinity is what would follow if there were no end. */
  private static BigDecimal exact(int bf16) {
    return bf16 == 0x7F80
        ? BigDecimal.TWO.pow(128)
        : new BigDecimal(Float.intBitsToFloat(bf16 << 16));
  }

  private static float value(short bf16) {
    return Float.intBitsToFloat(bf16 << 16);
  }

  /** Random values with the special ones among them. */
  private double[][] matrix(int rows, int cols) {
    double[][] x = data.matrix(rows, cols, 3);
    for (int i = 0; i < rows * cols; i += 3) {
      x[i / cols][i % cols] = SPECIAL[i / 3 % SPECIAL.length];
    }
    return x;
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 3, 7, 8, 15, 16, 17, 33, 64, 577, 70_001})
  void packsRowsAndGetsThemBack(int cols) {
    Tensor uploaded = upload(matrix(5, cols));
    float[][] x = download(uploaded);
    int[] rows = {4, 0, 2};
    // Of an odd address, as it may be in a frame.
    MemorySegment packed = memory(2L * 3 * cols);

    ops.packRows(uploaded, rows, packed);

    Tensor back = backend.tensor(4, cols);
    ops.unpackRows(packed, back.first(3));
    float[][] unpacked = download(back);
    Tensor sum = backend.tensor(6, cols);
    ops.addRows(packed, new int[] {5, 1, 2}, sum);
    ops.addRows(packed, new int[] {5, 1, 2}, sum);
    float[][] sums = download(sum);
    for (int i = 0; i < rows.length; i++) {
      for (int c = 0; c < cols; c++) {
        short expected = nearest(x[rows[i]][c]);
        short actual = packed.get(SHORT, 2L * (i * cols + c));
        if (Float.isNaN(x[rows[i]][c])) {
          assertThat(value(actual)).isNaN();
        } else {
          assertThat(actual).as("%s", x[rows[i]][c]).isEqualTo(expected);
        }
        assertThat(unpacked[i][c]).isEqualTo(Float.valueOf(value(actual)));
        assertThat(sums[new int[] {5, 1, 2}[i]][c])
            .isEqualTo(Float.valueOf(0f + value(actual) + value(actual)));
      }
    }
    assertThat(unpacked[3]).containsOnly(0f);
    assertThat(sums[0]).containsOnly(0f);
    assertThat(sums[4]).containsOnly(0f);
  }

  @Test
  void packsRoutingAndGetsItBack() {
    ModelSpec.Moe moe = moe(3, true, true);
    double[][] logits = logits(9, Load.SPREAD);
    Routing from = route(logits, moe);
    int[] rows = {7, 0, 8, 7};
    MemorySegment packed = memory(8L * 4 * 3);
    ops.packRouting(from, rows, packed);
    Routing back = backend.routing(6, 3, EXPERTS);
    ops.unpackRouting(packed, back.first(4));

    double[][] picked = new double[4][];
    Arrays.setAll(picked, i -> logits[rows[i]]);
    holds(back.first(4), ReferenceExperts.route(picked, moe));

    for (int expert : new int[] {-1, EXPERTS}) {
      packed.set(ValueLayout.JAVA_INT_UNALIGNED, 4, expert);
      assertThatThrownBy(() -> ops.unpackRouting(packed, back.first(4)))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("expert " + expert);
    }
  }

  @Test
  void refusesRowsThatDoNotFit() {
    Tensor x = backend.tensor(3, 5);
    Routing routing = backend.routing(3, 2, EXPERTS);
    MemorySegment two = memory(20);
    MemorySegment heap = MemorySegment.ofArray(new byte[100]);
    int[] both = {0, 2};
    ops.packRows(x, both, two);
    List<Runnable> wrong =
        List.of(
            () -> ops.packRows(x, new int[] {0, 1, 2}, two),
            () -> ops.packRows(x, new int[] {0, 3}, two),
            () -> ops.packRows(x, both, heap),
            () -> ops.unpackRows(two, x),
            () -> ops.unpackRows(heap, x.first(2)),
            () -> ops.addRows(two, new int[] {-1}, x),
            () -> ops.addRows(two, new int[] {0, 1, 2}, x),
            () -> ops.packRouting(routing, both, two),
            () -> ops.unpackRouting(two, routing.first(2)));
    for (int i = 0; i < wrong.size(); i++) {
      Runnable call = wrong.get(i);
      assertThatThrownBy(call::run).as("call %d", i).isInstanceOf(IllegalArgumentException.class);
    }
  }

  private static MemorySegment memory(long bytes) {
    return Arena.ofAuto().allocate(bytes + 1).asSlice(1);
  }
}
