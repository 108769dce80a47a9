package io.infinilora.backend.cpu;

import java.util.Arrays;

/**
 * The routed rows of a step by expert, each expert's in ascending order. Routed row {@code i * topK
 * + j} is choice j of row i.
 */
final class ExpertGroups {
  private final int[] starts;
  private final int[] order;
  private final int[] places;
  private int routedRows;

  /** Room for {@code capacity} routed rows; none yet. */
  ExpertGroups(int experts, int capacity) {
    starts = new int[experts + 1];
    order = new int[capacity];
    places = new int[capacity];
  }

  /** Groups the first {@code n} routed rows by their experts {@code choices}. */
  void group(int[] choices, int n) {
    Arrays.fill(starts, 0);
    for (int i = 0; i < n; i++) {
      starts[choices[i] + 1]++;
    }
    for (int e = 1; e < starts.length; e++) {
      starts[e] += starts[e - 1];
    }
    // Each start moves to its end and is then the next one's start.
    for (int i = 0; i < n; i++) {
      int place = starts[choices[i]]++;
      order[place] = i;
      places[i] = place;
    }
    System.arraycopy(starts, 0, starts, 1, starts.length - 1);
    starts[0] = 0;
    routedRows = n;
  }

  /** Number of routed rows. */
  int routedRows() {
    return routedRows;
  }

  /** Place of an expert's first routed row in {@link #order}; that of the next expert ends them. */
  int start(int expert) {
    return starts[expert];
  }

  /** Number of an expert's routed rows. */
  int rows(int expert) {
    return starts[expert + 1] - starts[expert];
  }

  /** Routed rows by expert. */
  int[] order() {
    return order;
  }

  /** Where in {@link #order} each routed row is. */
  int[] places() {
    return places;
  }
}
