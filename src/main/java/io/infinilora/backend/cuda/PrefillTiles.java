package io.infinilora.backend.cuda;

import io.infinilora.backend.BatchLayout;
import java.util.Arrays;

/**
 * The tiles of flat rows that the kernels of many rows go through: of each sequence with several
 * rows, its queries of the heads of a kv head, row by row.
 */
final class PrefillTiles {
  /**
   * Of a tile: sequence; row of its first flat row; that row's position; heads of that row before
   * the tile, times 256, plus the tile's flat rows.
   */
  static final int INTS = 4;

  /** Most flat rows of a tile. */
  static final int MOST_ROWS = 255;

  private static final int ROW_BITS = 8;

  private PrefillTiles() {}

  /**
   * The list that is uploaded, tiles with the most keys first, so that none is left over at the
   * end.
   *
   * @param share heads of a kv head
   * @param tileRows flat rows of a tile, at most {@link #MOST_ROWS}
   */
  static int[] of(BatchLayout batch, int share, int tileRows) {
    int count = 0;
    for (int s = 0; s < batch.sequences(); s++) {
      count += tiles(batch, s, share, tileRows);
    }
    int[] tiles = new int[INTS * count];
    long[] order = new long[count];
    int at = 0;
    for (int s = 0; s < batch.sequences(); s++) {
      int first = batch.rowStart()[s];
      int flats = (batch.rowStart()[s + 1] - first) * share;
      for (int i = 0; i < tiles(batch, s, share, tileRows); i++, at++) {
        int flat = i * tileRows;
        int own = Math.min(tileRows, flats - flat);
        int row = first + flat / share;
        int last = first + (flat + own - 1) / share;
        order[at] = -((long) batch.positions()[last] << Integer.SIZE) + at;
        tiles[INTS * at] = s;
        tiles[INTS * at + 1] = row;
        tiles[INTS * at + 2] = batch.positions()[row];
        tiles[INTS * at + 3] = flat % share << ROW_BITS | own;
      }
    }
    Arrays.sort(order);
    int[] sorted = new int[tiles.length];
    for (int i = 0; i < count; i++) {
      System.arraycopy(tiles, INTS * (int) order[i], sorted, INTS * i, INTS);
    }
    return sorted;
  }

  private static int tiles(BatchLayout batch, int sequence, int share, int tileRows) {
    int rows = batch.rowStart()[sequence + 1] - batch.rowStart()[sequence];
    return rows > 1 ? Math.ceilDiv(rows * share, tileRows) : 0;
  }
}
