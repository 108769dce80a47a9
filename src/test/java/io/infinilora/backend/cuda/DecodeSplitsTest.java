package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

/** How the keys of decode rows are cut. */
class DecodeSplitsTest {
  private static final long SLOTS = 132;

  private static final DecodeSplits.Shape WIDE = new DecodeSplits.Shape(8, 8);
  private static final DecodeSplits.Shape NARROW = new DecodeSplits.Shape(16, 4);

  /** Tiles that hold a key that the row at {@code position} sees. */
  private static int seen(int position, int window) {
    int first = window == 0 ? 0 : Math.max(0, position - window + 1);
    return position / DecodeSplits.KEYS - first / DecodeSplits.KEYS + 1;
  }

  @Test
  void tilesAreEnoughForEveryRow() {
    for (int window : new int[] {0, 1, 2, 15, 16, 17, 128, 1000}) {
      for (int positions = 1; positions < 300; positions++) {
        int tiles = DecodeSplits.tiles(positions, window);
        for (int p = 0; p < positions; p++) {
          assertThat(seen(p, window)).isLessThanOrEqualTo(tiles);
        }
      }
    }
  }

  @Test
  void aWindowBoundsTheTiles() {
    assertThat(DecodeSplits.tiles(131072, 128)).isEqualTo(9);
    assertThat(DecodeSplits.tiles(131072, 0)).isEqualTo(8192);
  }

  /** Tiles of the longest split of a row of so many, as the kernel cuts them. */
  private static int longest(DecodeSplits splits, int tiles) {
    return Math.ceilDiv(tiles, Math.min(splits.most(), Math.ceilDiv(tiles, splits.part())));
  }

  @Test
  void splitsAreWithinTheirLimits() {
    for (DecodeSplits.Shape shape : new DecodeSplits.Shape[] {WIDE, NARROW}) {
      for (int tiles = 1; tiles < 99_000; tiles = tiles * 9 / 8 + 1) {
        for (long blocks : new long[] {1, 4, 64, 128, 263, 264, 265, 1024, 65536}) {
          DecodeSplits splits = DecodeSplits.of(shape, tiles, blocks, SLOTS);
          assertThat(splits.most()).isBetween(1, splits.together() ? shape.cluster() : 256);
          assertThat(splits.part()).isPositive();
          long balanced = Math.max(128, 128 * blocks / SLOTS);
          long filling = Math.ceilDiv(tiles, Math.clamp(SLOTS / blocks, 1, 256));
          assertThat((long) longest(splits, tiles))
              .isLessThanOrEqualTo(Math.max(balanced, filling));
        }
      }
    }
  }

  @Test
  void clustersFillHalfOfTheDevice() {
    assertThat(DecodeSplits.of(WIDE, 64, 4, SLOTS)).isEqualTo(new DecodeSplits(8, 8, true));
    assertThat(DecodeSplits.of(WIDE, 128, 16, SLOTS)).isEqualTo(new DecodeSplits(4, 8, true));
    assertThat(DecodeSplits.of(WIDE, 128, 32, SLOTS)).isEqualTo(new DecodeSplits(2, 8, true));
    assertThat(DecodeSplits.of(WIDE, 128, 64, SLOTS)).isEqualTo(new DecodeSplits(1, 8, false));
    assertThat(DecodeSplits.of(NARROW, 64, 8, SLOTS)).isEqualTo(new DecodeSplits(4, 16, true));
  }

  @Test
  void aShortRowIsNotCut() {
    assertThat(DecodeSplits.of(WIDE, 9, 4, SLOTS).most()).isOne();
    assertThat(DecodeSplits.of(NARROW, 31, 8, SLOTS).most()).isOne();
    assertThat(DecodeSplits.of(WIDE, 1, 1, SLOTS).most()).isOne();
  }

  @Test
  void longRowsThatAreFewFillTheDevice() {
    assertThat(DecodeSplits.of(WIDE, 512, 4, SLOTS)).isEqualTo(new DecodeSplits(16, 32, false));
    assertThat(DecodeSplits.of(WIDE, 8192, 4, SLOTS)).isEqualTo(new DecodeSplits(33, 32, false));
  }

  @Test
  void aLongRowAmongManyDoesNotHoldUpTheOthers() {
    assertThat(DecodeSplits.of(WIDE, 2048, 128, SLOTS)).isEqualTo(new DecodeSplits(16, 128, false));
    assertThat(DecodeSplits.of(WIDE, 2048, 528, SLOTS)).isEqualTo(new DecodeSplits(4, 512, false));
  }
}
