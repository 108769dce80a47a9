package io.infinilora.backend.cuda;

import java.util.Arrays;
import java.util.function.IntToLongFunction;

/**
 * How much of a batch one block of threads of the LoRA kernels works on. Speed alone depends on it:
 * the order of sums does not. {@code src/test/cuda/plan.py} is the same in Python and says how the
 * numbers were found.
 */
final class LoraTiling {
  /** Rows of an operator at most: a dense site can make a tile of each, and a grid has no more. */
  static final int MAX_ROWS = Launch.MAX_GRID;

  /** Routed rows of an operator at most: the kernels that plan count in 21 bits. */
  static final int MAX_ROUTED = (1 << 21) - 1;

  /**
   * Adapters times experts that are computed at once at most: {@link #MAX_ROUTED} rows then make no
   * more tiles than a grid has blocks along y. Each pair has at most one tile that is not full, and
   * full ones are at most as many again, or of {@link #SHRINK_ROWS} rows.
   */
  static final int MAX_PAIRS = 1 << 15;

  /** Blocks of a cluster at most. */
  private static final int MAX_CLUSTER = 8;

  private static final int SHRINK_ROWS = 64;
  private static final int SHRINK_RANK_BLOCKS = 2;
  private static final int EXPAND_ROWS = 64;
  private static final int EXPAND_WARPS = 4;
  private static final int EXPAND_FRAGMENTS = 16;
  private static final int MANY_ROWS = 128;
  private static final int MANY_RANK_BLOCKS = 4;
  private static final int MANY_FEATURE_BLOCKS = 4;

  /** The highest rank of a target that the expand kernel for many rows takes. */
  private static final int MANY_RANKS = 64;

  /** Work is cut finer below so many blocks of threads: two per multiprocessor of an H100. */
  private static final int ENOUGH_BLOCKS = 2 * 132;

  /** Clusters of 8 blocks of the shrink kernel for many rows that an H100 runs at once. */
  private static final int CLUSTERS_AT_ONCE = 30;

  private static final int MANY_SHRINK_FROM = 48;
  private static final int MANY_SHRINK_IN_ALL = 1024;
  private static final int MANY_EXPAND_FROM = 24;
  private static final int MANY_EXPAND_BLOCKS = 100;
  private static final int FEW_ROWS_BLOCKS = 8 * 132;

  /**
   * Of a shrink kernel.
   *
   * @param rows of a tile at most
   * @param shares blocks of clusters that share a tile's ranks
   */
  record Shrink(int rows, int shares) {}

  /**
   * Of an expand kernel.
   *
   * @param rows of a tile at most
   * @param most feature blocks of a block of threads; the kernel for few rows only
   * @param shares blocks of threads that share a tile, per target
   */
  record Expand(int rows, int most, int[] shares) {

    /** Of all targets. */
    int allShares() {
      return Arrays.stream(shares).sum();
    }
  }

  private LoraTiling() {}

  /**
   * Blocks of a cluster, and clusters, that reduce one row of x. They follow from its width alone,
   * so that results never depend on the batch.
   */
  record Clusters(int blocks, int splits) {
    static Clusters of(int in, boolean supported) {
      int chunks = LoraPieces.chunks(in);
      int splits = supported ? Math.ceilDiv(chunks, MAX_CLUSTER) : chunks;
      return new Clusters(Math.ceilDiv(chunks, splits), splits);
    }

    /** Blocks that reduce one row. */
    int all() {
      return blocks * splits;
    }
  }

  private static int fewRows(RowCounts counts, int most) {
    return Math.min(most, Math.max(8, (int) (2 * counts.mean()) / 8 * 8));
  }

  /**
   * The largest share of rows, from {@code rows} down to {@code least}, that makes enough blocks.
   */
  private static int halveRows(int rows, int least, IntToLongFunction blocks) {
    int r = rows;
    while (r > least && blocks.applyAsLong(r) < ENOUGH_BLOCKS) {
      r = Math.max(least, r / 2 / least * least);
    }
    return r;
  }

  /** Adapters of so many rows go through the shrink kernel for many rows. */
  static int manyShrinkFrom(RowCounts counts) {
    return counts.where(c -> c >= MANY_SHRINK_FROM).sum() >= MANY_SHRINK_IN_ALL
        ? MANY_SHRINK_FROM
        : Integer.MAX_VALUE;
  }

  /**
   * Adapters of so many rows go through the expand kernel for many rows.
   *
   * @param features of each target
   * @param rank the largest of a target
   */
  static int manyExpandFrom(RowCounts counts, int[] features, int rank) {
    long shares = counts.tiles(64) * Arrays.stream(features).map(n -> Math.ceilDiv(n, 256)).sum();
    return counts.mean() >= MANY_EXPAND_FROM && shares >= MANY_EXPAND_BLOCKS && rank <= MANY_RANKS
        ? MANY_EXPAND_FROM
        : Integer.MAX_VALUE;
  }

  /** For few rows. */
  static Shrink fewShrink(RowCounts counts, Clusters clusters, int rankBlocks) {
    int shares = Math.max(1, Math.ceilDiv(rankBlocks, SHRINK_RANK_BLOCKS));
    long blocks = (long) clusters.all() * shares;
    int rows = halveRows(fewRows(counts, SHRINK_ROWS), 8, r -> blocks * counts.tiles(r));
    return new Shrink(rows, shares);
  }

  /** For many rows: the fewest with which all clusters still run at once, or else the most. */
  static Shrink manyShrink(RowCounts counts, Clusters clusters, int rankBlocks) {
    int shares = Math.max(1, Math.ceilDiv(rankBlocks, MANY_RANK_BLOCKS));
    int rows = 32;
    while (rows < MANY_ROWS
        && (long) clusters.splits() * shares * counts.tiles(rows) > CLUSTERS_AT_ONCE) {
      rows += 16;
    }
    return new Shrink(rows, shares);
  }

  /** Feature blocks that a block of the expand kernel for few rows holds at most. */
  private static int held(int rank) {
    return EXPAND_WARPS * EXPAND_FRAGMENTS / (4 * (rank > 32 ? 4 : rank > 16 ? 2 : 1));
  }

  /** For few rows. */
  static Expand fewExpand(RowCounts counts, int[] features, int rank) {
    int most = EXPAND_FRAGMENTS;
    while (most > EXPAND_WARPS
        && counts.tiles(EXPAND_ROWS) * sharesOf(features, Math.min(most, held(rank)))
            < ENOUGH_BLOCKS) {
      most /= 2;
    }
    int blocks = Math.min(most, held(rank));
    long shares = sharesOf(features, blocks);
    int rows = EXPAND_ROWS;
    if (counts.tiles(rows) * shares < FEW_ROWS_BLOCKS) {
      rows = fewRows(counts, rows);
    }
    rows = halveRows(rows, 8, r -> counts.tiles(r) * shares);
    return new Expand(rows, most, shares(features, blocks));
  }

  /** For many rows. */
  static Expand manyExpand(RowCounts counts, int[] features) {
    long shares = sharesOf(features, MANY_FEATURE_BLOCKS);
    int rows = halveRows(MANY_ROWS, 16, r -> counts.tiles(r) * shares);
    return new Expand(rows, 0, shares(features, MANY_FEATURE_BLOCKS));
  }

  private static int[] shares(int[] features, int blocks) {
    return Arrays.stream(features)
        .map(n -> Math.ceilDiv(n, LoraPieces.FEATURE_BLOCK * blocks))
        .toArray();
  }

  private static long sharesOf(int[] features, int blocks) {
    return Arrays.stream(shares(features, blocks)).sum();
  }

  /** Rows of a tile if {@code count} rows are cut evenly: at most {@code most}, multiples of 8. */
  static int evenRows(int count, int most) {
    return Math.ceilDiv(Math.ceilDiv(count, Math.ceilDiv(count, most)), 8) * 8;
  }

  /**
   * Rows of each expert of each adapter that can be expected.
   *
   * @param routed routed rows, of adapters
   * @param pairs adapters times experts
   */
  static RowCounts routed(int routed, int pairs) {
    double used = pairs * (1 - Math.pow(1 - 1.0 / pairs, routed));
    int groups = (int) Math.max(1, Math.rint(used));
    return RowCounts.alike(groups, Math.ceilDiv(routed, groups));
  }

  /** Tiles that routed rows can make at most. */
  static int mostTiles(int routed, int pairs, int rows) {
    return Math.min(routed, Math.min(routed, pairs) + routed / rows);
  }
}
