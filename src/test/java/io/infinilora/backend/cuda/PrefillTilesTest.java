package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.BatchLayout;
import java.util.HashSet;
import java.util.Set;
import org.junit.jupiter.api.Test;

/** The tiles that attention of many rows goes through. */
class PrefillTilesTest {
  /** Sequences whose rows begin at the positions {@code starts}. */
  private static BatchLayout batch(int[] starts, int[] rows) {
    int[] rowStart = new int[rows.length + 1];
    for (int s = 0; s < rows.length; s++) {
      rowStart[s + 1] = rowStart[s] + rows[s];
    }
    int[] positions = new int[rowStart[rows.length]];
    for (int s = 0; s < rows.length; s++) {
      for (int r = 0; r < rows[s]; r++) {
        positions[rowStart[s] + r] = starts[s] + r;
      }
    }
    return new BatchLayout(
        new int[positions.length], positions, rowStart, new int[rows.length][0], new int[0]);
  }

  @Test
  void everyFlatRowIsInOneTile() {
    int[] rows = {1, 7, 70, 0, 129, 2};
    BatchLayout batch = batch(new int[] {5, 0, 9, 3, 0, 64}, rows);
    for (int share : new int[] {1, 3, 8, 20}) {
      for (int tileRows : new int[] {64, 128}) {
        int[] tiles = PrefillTiles.of(batch, share, tileRows);
        Set<Integer> found = new HashSet<>();
        for (int i = 0; i < tiles.length; i += PrefillTiles.INTS) {
          int row = tiles[i + 1];
          int before = tiles[i + 3] >> 8;
          int flats = tiles[i + 3] & 0xff;
          assertThat(row).isBetween(batch.rowStart()[tiles[i]], batch.rowStart()[tiles[i] + 1] - 1);
          assertThat(tiles[i + 2]).isEqualTo(batch.positions()[row]);
          assertThat(before).isLessThan(share);
          assertThat(flats).isBetween(1, tileRows);
          assertThat((row * share + before + flats - 1) / share)
              .isLessThan(batch.rowStart()[tiles[i] + 1]);
          for (int f = 0; f < flats; f++) {
            assertThat(found.add(row * share + before + f)).isTrue();
          }
        }
        assertThat(found).hasSize((7 + 70 + 129 + 2) * share);
      }
    }
  }

  @Test
  void tilesWithMostKeysComeFirst() {
    BatchLayout batch = batch(new int[] {0, 100, 40}, new int[] {200, 33, 90});
    int[] tiles = PrefillTiles.of(batch, 4, 64);
    int before = Integer.MAX_VALUE;
    for (int i = 0; i < tiles.length; i += PrefillTiles.INTS) {
      int flats = (tiles[i + 3] >> 8) + (tiles[i + 3] & 0xff);
      int position = tiles[i + 2] + (flats - 1) / 4;
      assertThat(position).isLessThanOrEqualTo(before);
      before = position;
    }
  }

  @Test
  void singleRowsHaveNone() {
    assertThat(PrefillTiles.of(batch(new int[] {3, 4}, new int[] {1, 1}), 8, 64)).isEmpty();
  }
}
