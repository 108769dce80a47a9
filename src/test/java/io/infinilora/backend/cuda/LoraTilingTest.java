package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.cuda.LoraTiling.Clusters;
import io.infinilora.backend.cuda.LoraTiling.Expand;
import io.infinilora.backend.cuda.LoraTiling.Shrink;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

class LoraTilingTest {
  @Test
  void clustersFollowFromTheWidthAlone() {
    assertThat(Clusters.of(40, true)).isEqualTo(new Clusters(1, 1));
    assertThat(Clusters.of(4096, true)).isEqualTo(new Clusters(8, 1));
    assertThat(Clusters.of(4616, true)).isEqualTo(new Clusters(5, 2));
    assertThat(Clusters.of(14336, true)).isEqualTo(new Clusters(7, 4));
    assertThat(Clusters.of(14336, false)).isEqualTo(new Clusters(1, 28));
  }

  @Test
  void fewRowsAreCutUntilTheDeviceIsFull() {
    Clusters clusters = Clusters.of(4096, true);
    // One adapter, rank 64: 16 blocks per tile.
    assertThat(LoraTiling.fewShrink(RowCounts.of(64), clusters, 4)).isEqualTo(new Shrink(8, 2));
    // 64 adapters of one row each fill it as they are.
    int[] ones = new int[64];
    Arrays.fill(ones, 1);
    assertThat(LoraTiling.fewShrink(RowCounts.of(ones), clusters, 1)).isEqualTo(new Shrink(8, 1));
    assertThat(LoraTiling.fewShrink(RowCounts.alike(8, 32), clusters, 8))
        .isEqualTo(new Shrink(32, 4));
    Expand expand = LoraTiling.fewExpand(RowCounts.of(64), new int[] {4096}, 64);
    assertThat(expand.rows()).isEqualTo(8);
    assertThat(expand.most()).isEqualTo(4);
    assertThat(expand.shares()).containsExactly(16);
    expand = LoraTiling.fewExpand(RowCounts.of(ones), new int[] {14336, 0, 40}, 16);
    assertThat(expand.most()).isEqualTo(16);
    assertThat(expand.shares()).containsExactly(14, 0, 1);
  }

  @Test
  void manyRowsGoThroughTheirOwnKernels() {
    RowCounts prefill = RowCounts.of(2048);
    assertThat(LoraTiling.manyShrinkFrom(prefill)).isEqualTo(48);
    assertThat(LoraTiling.manyShrinkFrom(RowCounts.of(500, 500))).isEqualTo(Integer.MAX_VALUE);
    assertThat(LoraTiling.manyShrinkFrom(RowCounts.alike(8, 512))).isEqualTo(48);
    assertThat(LoraTiling.manyShrink(prefill, Clusters.of(4096, true), 4))
        .isEqualTo(new Shrink(80, 1));
    assertThat(LoraTiling.manyShrink(RowCounts.of(8192), Clusters.of(4096, true), 8))
        .isEqualTo(new Shrink(128, 2));
    assertThat(LoraTiling.manyExpandFrom(prefill, new int[] {4096}, 64)).isEqualTo(24);
    assertThat(LoraTiling.manyExpandFrom(prefill, new int[] {4096}, 80))
        .isEqualTo(Integer.MAX_VALUE);
    assertThat(LoraTiling.manyExpandFrom(RowCounts.of(23), new int[] {1 << 20}, 16))
        .isEqualTo(Integer.MAX_VALUE);
    assertThat(LoraTiling.manyExpand(prefill, new int[] {4096, 1024}).shares())
        .containsExactly(16, 4);
  }

  @Test
  void tilesCoverEveryRowOnce() {
    Random random = new Random(1);
    for (int i = 0; i < 2000; i++) {
      int count = 1 + random.nextInt(300);
      int most = 8 * (1 + random.nextInt(16));
      LoraTiles tiles = new LoraTiles(2, Math.ceilDiv(count, most) + 3);
      tiles.add(5, count, most, 7, 9);
      long[] values = tiles.values();
      int covered = 0;
      int n = 0;
      for (; n < tiles.capacity() && values[n] >>> 32 > 0; n++) {
        int rows = (int) (values[n] >>> 32);
        assertThat((int) values[n]).isEqualTo(5 + covered);
        assertThat(rows).isLessThanOrEqualTo(most);
        assertThat(values[tiles.capacity() + n]).isEqualTo(7);
        assertThat(values[2 * tiles.capacity() + n]).isEqualTo(9);
        covered += rows;
      }
      assertThat(covered).isEqualTo(count);
      assertThat(n).isEqualTo(Math.ceilDiv(count, most));
    }
  }

  @Test
  void noRoutingMakesMoreTilesThanThereIsRoomFor() {
    Random random = new Random(2);
    for (int i = 0; i < 300; i++) {
      int pairs = 1 + random.nextInt(60);
      int routed = 1 + random.nextInt(400);
      int rows = 8 * (1 + random.nextInt(8));
      int[] counts = new int[pairs];
      int favourite = random.nextInt(pairs);
      for (int r = 0; r < routed; r++) {
        counts[random.nextInt(3) == 0 ? favourite : random.nextInt(pairs)]++;
      }
      assertThat(RowCounts.of(counts).tiles(rows))
          .isLessThanOrEqualTo(LoraTiling.mostTiles(routed, pairs, rows));
    }
  }

  /** Tiles are blocks along y of the shrink kernels' grids. */
  @Test
  void noRoutingMakesMoreTilesThanAGridHasBlocks() {
    Clusters clusters = Clusters.of(512, true); // Of one block, so that tiles are cut the least.
    SplittableRandom random = new SplittableRandom(3);
    int most = 0;
    for (int i = 0; i < 200_000; i++) {
      int pairs = i < 100_000 ? LoraTiling.MAX_PAIRS : 1 + random.nextInt(LoraTiling.MAX_PAIRS);
      int routed = i == 0 ? LoraTiling.MAX_ROUTED : 1 + random.nextInt(1 << random.nextInt(22));
      routed = Math.min(routed, LoraTiling.MAX_ROUTED);
      RowCounts counts = LoraTiling.routed(routed, pairs);
      Shrink few = LoraTiling.fewShrink(counts, clusters, 1);
      Shrink many = LoraTiling.manyShrink(counts, clusters, 1);
      for (Shrink tiling : List.of(few, many)) {
        most = Math.max(most, LoraTiling.mostTiles(routed, pairs, tiling.rows()));
      }
    }
    assertThat(most).isBetween(Launch.MAX_GRID - 100, Launch.MAX_GRID);
  }

  @Test
  void capacitiesAreRoundedUpToPowersOfTwo() {
    int[] expected = {1, 1, 2, 4, 4, 8, 8, 8, 8, 16};
    for (int n = 0; n < expected.length; n++) {
      assertThat(LoraCapacity.roundUpToPowerOfTwo(n)).isEqualTo(expected[n]);
    }
  }

  @Test
  void pagesAreTakenFromTheLowestFreeOnes() {
    LoraPages pages = new LoraPages(5);
    assertThat(pages.take(3)).containsExactly(0, 1, 2);
    pages.giveBack(new int[] {1});
    assertThat(pages.take(2)).containsExactly(1, 3);
    assertThat(pages.free()).isEqualTo(1);
    assertThatThrownBy(() -> pages.take(2))
        .isInstanceOf(IllegalStateException.class)
        .hasMessageContaining("2 pages, but 1 of 5");
    assertThat(pages.free()).isEqualTo(1);
  }
}
