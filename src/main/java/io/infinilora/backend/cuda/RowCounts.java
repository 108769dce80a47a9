package io.infinilora.backend.cuda;

import java.util.Arrays;
import java.util.function.IntPredicate;

/**
 * How many rows each adapter (or each expert of each adapter) has in a batch: known, or estimated
 * as all alike.
 */
final class RowCounts {
  private final int[] counts;
  private final int times;

  private RowCounts(int[] counts, int times) {
    this.counts = counts;
    this.times = times;
  }

  static RowCounts of(int... counts) {
    return new RowCounts(counts.clone(), 1);
  }

  /** {@code groups} groups of about {@code rows} rows. */
  static RowCounts alike(int groups, int rows) {
    return new RowCounts(new int[] {rows}, groups);
  }

  /** Those that fulfil a condition. */
  RowCounts where(IntPredicate condition) {
    return new RowCounts(Arrays.stream(counts).filter(condition).toArray(), times);
  }

  /** All rows. */
  long sum() {
    return Arrays.stream(counts).asLongStream().sum() * times;
  }

  /** Tiles of at most so many rows; if rows are estimated, about so many. */
  long tiles(int rows) {
    if (times > 1 && counts.length == 1) {
      // Around the mean, a group's last tile is half full.
      return Math.max(times, (long) (times * ((double) counts[0] / rows + 0.5)));
    }
    long tiles = 0;
    for (int count : counts) {
      tiles += Math.ceilDiv(count, rows);
    }
    return tiles;
  }

  /** Mean of those that have rows. */
  double mean() {
    long groups = Arrays.stream(counts).filter(c -> c > 0).count() * times;
    return groups == 0 ? 0 : (double) sum() / groups;
  }

  /** The largest. */
  int most() {
    return Arrays.stream(counts).max().orElse(0);
  }
}
