package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.reference.ReferenceWeights;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.DType;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.BitSet;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class LoraPackerTest {
  private final TestData data = new TestData(5);

  private static LoraLayout layout(LoraFactors pair) {
    return new LoraLayout(
        new LayerFactors(Map.of(LoraSite.ATTENTION_OUT, List.of(pair)), Map.of()));
  }

  private static MemorySegment pack(LoraLayout layout) {
    MemorySegment memory = MemorySegment.ofArray(new byte[Math.toIntExact(layout.extent())]);
    LoraPacker.pack(layout, memory);
    return memory;
  }

  /** The value at an index, counted in bf16, of a piece. */
  private static float value(MemorySegment memory, long piece, int index) {
    return Float.intBitsToFloat(
        memory.get(ValueLayout.JAVA_SHORT_UNALIGNED, piece + 2L * index) << 16);
  }

  /**
   * By the formula of lora.cuh, the other way round: what lane l = 4 g + c holds, in eight values
   * {@code (row g, lo) (row g + 8, lo) (row g, hi) (row g + 8, hi)}.
   */
  private static int[] rowAndColumn(int lane, int value, boolean ofA, int fragment) {
    int g = lane / 4;
    int c = lane % 4;
    int row = value / 2 % 2;
    int k = value / 4 * 2 + value % 2;
    return ofA
        ? new int[] {g + 8 * row, fragment / 2 * 32 + 8 * c + 4 * (fragment % 2) + k}
        : new int[] {8 * g + 2 * (fragment % 4) + row, fragment / 4 * 16 + 4 * c + k};
  }

  @ParameterizedTest
  @CsvSource({
    "F32, 7, 45, 300",
    "BF16, 64, 1100, 130",
    "F16, 33, 512, 64",
    "F32, 512, 40, 9",
    "BF16, 1, 6000, 21"
  })
  void packsByTheFormula(DType dtype, int rank, int in, int out) {
    LoraFactors pair =
        new LoraFactors(data.weights(dtype, rank, in), data.weights(dtype, out, rank), 1);
    LoraLayout layout = layout(pair);
    MemorySegment memory = pack(layout);
    double[][] a = ReferenceWeights.decode(pair.a());
    double[][] b = ReferenceWeights.decode(pair.b());
    int chunks = LoraPieces.chunks(in);
    long[] placesA = layout.as().getFirst().places();
    for (int p = 0; p < placesA.length; p++) {
      int values = LoraPieces.bytesOfA(in, p % chunks) / 2;
      for (int i = 0; i < values; i++) {
        int[] at = rowAndColumn(i / 8 % 32, i % 8, true, i / 256);
        int row = p / chunks * 16 + at[0];
        int column = p % chunks * 512 + at[1];
        assertThat(value(memory, placesA[p], i)).isEqualTo(rounded(a, row, column));
      }
    }
    long[] placesB = layout.bs().getFirst().places();
    for (int p = 0; p < placesB.length; p++) {
      for (int i = 0; i < LoraPieces.bytesOfB(rank) / 2; i++) {
        int[] at = rowAndColumn(i / 8 % 32, i % 8, false, i / 256);
        assertThat(value(memory, placesB[p], i)).isEqualTo(rounded(b, p * 64 + at[0], at[1]));
      }
    }
  }

  /** Zero beyond the matrix. */
  private static float rounded(double[][] matrix, int row, int column) {
    if (row >= matrix.length || column >= matrix[0].length) {
      return 0;
    }
    return Float.intBitsToFloat(Bf16Rows.round((float) matrix[row][column]) << 16);
  }

  @Test
  void everyPlaceOfAPieceIsUsedOnce() {
    BitSet ofA = new BitSet();
    for (int rank = 0; rank < 16; rank++) {
      for (int k = 0; k < 512; k++) {
        ofA.set(LoraPacker.inA(rank, k));
      }
    }
    assertThat(ofA.cardinality()).isEqualTo(16 * 512).isEqualTo(ofA.length());
    BitSet ofB = new BitSet();
    for (int feature = 0; feature < 64; feature++) {
      for (int k = 0; k < 48; k++) {
        ofB.set(LoraPacker.inB(feature, k));
      }
    }
    assertThat(ofB.cardinality()).isEqualTo(64 * 48).isEqualTo(ofB.length());
    // Some values as src/test/cuda/layout.py places them.
    assertThat(LoraPacker.inA(9, 45)).isEqualTo(3 * 256 + (4 + 1) * 8 + 2 + 1);
    assertThat(LoraPacker.inB(21, 30)).isEqualTo(6 * 256 + (8 + 3) * 8 + 4 + 2);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void readsAnyStrides(DType dtype) {
    WeightMatrix a = data.weights(dtype, 45, 14).cols(1, 2, 7).transposed();
    WeightMatrix b = data.weights(dtype, 28, 20).rows(2, 3, 7).transposed();
    LoraLayout layout = layout(new LoraFactors(a, b, 1));
    MemorySegment memory = pack(layout);
    double[][] values = ReferenceWeights.decode(a);
    long place = layout.as().getFirst().places()[0];
    for (int r = 0; r < 7; r++) {
      for (int k = 0; k < 45; k++) {
        assertThat(value(memory, place, LoraPacker.inA(r, k))).isEqualTo(rounded(values, r, k));
      }
    }
    values = ReferenceWeights.decode(b);
    place = layout.bs().getFirst().places()[0];
    for (int n = 0; n < 20; n++) {
      for (int k = 0; k < 7; k++) {
        assertThat(value(memory, place, LoraPacker.inB(n, k))).isEqualTo(rounded(values, n, k));
      }
    }
  }

  @Test
  void roundsToNearestTiesToEven() {
    assertThat(Bf16Rows.round(Float.intBitsToFloat(0x3F808000))).isEqualTo((short) 0x3F80);
    assertThat(Bf16Rows.round(Float.intBitsToFloat(0x3F818000))).isEqualTo((short) 0x3F82);
    assertThat(Bf16Rows.round(Float.intBitsToFloat(0x3F808001))).isEqualTo((short) 0x3F81);
    assertThat(Bf16Rows.round(-Float.MAX_VALUE)).isEqualTo((short) 0xFF80);
    assertThat(Bf16Rows.round(Float.intBitsToFloat(0x7F800001))).isEqualTo((short) 0x7FC0);
  }
}
