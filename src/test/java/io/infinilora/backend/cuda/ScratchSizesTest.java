package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.core.ModelSpec;
import java.util.List;
import org.junit.jupiter.api.Test;

class ScratchSizesTest {
  private static final ScratchSizes HOPPER = new ScratchSizes(true, 132);
  private static final ScratchSizes OTHER = new ScratchSizes(false, 108);

  private static ModelSpec.Attention attention(Integer... windows) {
    return new ModelSpec.Attention(32, 4, 128, false, false, false, false, 0, List.of(windows));
  }

  /** A row of 128 elements, its largest score and its sum. */
  private static final long PART = 130 * 4;

  @Test
  void longRowsOfManySequencesPutMostDown() {
    // 8,192 tiles, 128 in each part.
    assertThat(HOPPER.decodeAttention(attention(0), 8192, 16, 32))
        .isEqualTo(32 * 32 * (8192 / 128) * PART);
    // A few more sequences are padded to 40, with tiles of 155 in each part.
    assertThat(HOPPER.decodeAttention(attention(0), 8192, 16, 33))
        .isGreaterThanOrEqualTo(33 * 32 * (8192 / 128) * PART);
    // Tables are padded to powers of two.
    assertThat(HOPPER.decodeAttention(attention(0), 4097, 16, 32))
        .isEqualTo(HOPPER.decodeAttention(attention(0), 8192, 16, 32));
  }

  @Test
  void clustersAndWindowsPutNothingDown() {
    assertThat(HOPPER.decodeAttention(attention(0), 64, 16, 1)).isZero();
    assertThat(OTHER.decodeAttention(attention(0), 64, 16, 1)).isPositive();
    assertThat(HOPPER.decodeAttention(attention(128), 8192, 16, 32)).isZero();
    assertThat(HOPPER.decodeAttention(attention(128, 0), 8192, 16, 32)).isPositive();
  }

  @Test
  void termsAreFloatsUntilThereAreMany() {
    ModelSpec.Moe moe = new ModelSpec.Moe(128, 8, true, true, false, false);
    // 24 rows of each expert are many: 384 rows of 8 choices.
    assertThat(HOPPER.expertTerms(moe, 383, 2048)).isEqualTo(4L * 383 * 8 * 2048);
    assertThat(HOPPER.expertTerms(moe, 384, 2048)).isEqualTo(4L * 383 * 8 * 2048);
    assertThat(HOPPER.expertTerms(moe, 8192, 2048)).isEqualTo(2L * 8192 * 8 * 2048);
    assertThat(OTHER.expertTerms(moe, 8192, 2048)).isEqualTo(4L * 8192 * 8 * 2048);
    assertThat(HOPPER.sortedRows(moe, 383, 2048)).isZero();
    assertThat(HOPPER.sortedRows(moe, 384, 2048)).isEqualTo(2L * 384 * 8 * 2048);
  }

  @Test
  void logitsAreSortedInWhatBlocksShareIfTheyCan() {
    assertThat(HOPPER.sortedLogits(151_936, 64)).isZero();
    assertThat(HOPPER.sortedLogits(500_001, 64)).isEqualTo(64 * 4 * 500_004L);
    assertThat(OTHER.sortedLogits(16_384, 64)).isZero();
    assertThat(OTHER.sortedLogits(16_385, 64)).isEqualTo(64 * 4 * 16_388L);
  }
}
