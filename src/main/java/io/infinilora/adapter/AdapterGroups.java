package io.infinilora.adapter;

import io.infinilora.backend.RowGroups;
import java.util.Arrays;

/**
 * Rows of a step grouped by the adapter they use.
 *
 * @param groups row numbers per group; rows without an adapter are in none
 * @param slots the adapter of each group, ascending
 */
public record AdapterGroups(RowGroups groups, int[] slots) {

  /** Marks a row that uses no adapter. */
  public static final int NO_ADAPTER = -1;

  /**
   * Groups by slot; within a group rows keep their order.
   *
   * @param slotOfRow slot of each row or {@link #NO_ADAPTER}
   */
  public static AdapterGroups of(int[] slotOfRow) {
    int[] slots =
        Arrays.stream(slotOfRow).filter(s -> s != NO_ADAPTER).sorted().distinct().toArray();
    int[] starts = new int[slots.length + 1];
    for (int slot : slotOfRow) {
      if (slot != NO_ADAPTER) {
        starts[Arrays.binarySearch(slots, slot) + 1]++;
      }
    }
    Arrays.parallelPrefix(starts, Integer::sum);
    int[] rows = new int[starts[slots.length]];
    int[] next = starts.clone();
    for (int row = 0; row < slotOfRow.length; row++) {
      if (slotOfRow[row] != NO_ADAPTER) {
        rows[next[Arrays.binarySearch(slots, slotOfRow[row])]++] = row;
      }
    }
    return new AdapterGroups(new RowGroups(rows, starts), slots);
  }

  /** Number of rows that use an adapter. */
  public int rows() {
    return groups.rows().length;
  }

  /** Whether no row uses an adapter. */
  public boolean isEmpty() {
    return slots.length == 0;
  }
}
