package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

/** How the keys of decode rows are cut. */
class DecodeSplitsTest {
  private static final long SLOTS = 264;

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

  @Test
  void splitsCoverAllTiles() {
    for (int tiles = 1; tiles < 9000; tiles += 7) {
      for (long blocks : new long[] {1, 4, 128, 263, 264, 265, 1024, 65536}) {
        DecodeSplits splits = DecodeSplits.of(tiles, blocks, SLOTS);
        assertThat((long) splits.most() * splits.part()).isGreaterThanOrEqualTo(tiles);
        assertThat(splits.most()).isBetween(1, 256);
      }
    }
  }

  @Test
  void fewRowsFillTheDeviceOnce() {
    assertThat(DecodeSplits.of(64, 128, SLOTS)).isEqualTo(new DecodeSplits(2, 32));
    assertThat(DecodeSplits.of(2048, 4, SLOTS)).isEqualTo(new DecodeSplits(64, 32));
  }

  @Test
  void aShortRowIsNotCutMoreThanWarpsNeed() {
    assertThat(DecodeSplits.of(8, 1, SLOTS)).isEqualTo(new DecodeSplits(2, 4));
    assertThat(DecodeSplits.of(1, 1, SLOTS)).isEqualTo(new DecodeSplits(1, 4));
  }

  @Test
  void aLongRowAmongManyDoesNotHoldUpTheOthers() {
    assertThat(DecodeSplits.of(2048, 128, SLOTS)).isEqualTo(new DecodeSplits(16, 128));
    assertThat(DecodeSplits.of(2048, 1056, SLOTS)).isEqualTo(new DecodeSplits(4, 512));
  }
}
