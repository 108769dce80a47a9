package io.infinilora.backend.cpu;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.RowGroups;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * The routed rows of a step by adapter and expert, as far as the adapters have their experts, cut
 * into chunks of at most {@link LoraKernels#MAX_ROWS}.
 */
final class ExpertLoraPlan {
  /**
   * Routed rows of one adapter and expert.
   *
   * @param pairs one per target
   * @param from first place in {@link #order}
   * @param to place after the last
   */
  record Chunk(LoraPair[] pairs, int from, int to) {}

  private final RowGroups groups;
  private final List<ExpertLoraWeights> weights;
  private final CpuRouting routing;

  /** Routed rows by adapter, then expert, then as the group has them. */
  private final int[] order;

  private final List<Chunk> chunks = new ArrayList<>();
  private int routedRows;

  ExpertLoraPlan(RowGroups groups, List<ExpertLoraWeights> weights, CpuRouting routing) {
    this.groups = groups;
    this.weights = weights;
    this.routing = routing;
    order = new int[groups.rows().length * routing.topK()];
    int[] places = new int[routing.experts() + 1];
    for (int g = 0; g < groups.groups(); g++) {
      if (weights.get(g) != null) {
        group(g, places);
      }
    }
  }

  private void group(int g, int[] places) {
    CpuExpertLoraWeights w = weights(g);
    int topK = routing.topK();
    int[] choices = routing.choices();
    Arrays.fill(places, 0);
    for (int i = groups.starts()[g]; i < groups.starts()[g + 1]; i++) {
      int first = groups.rows()[i] * topK;
      for (int r = first; r < first + topK; r++) {
        places[choices[r] + 1]++;
      }
    }
    places[0] = routedRows;
    for (int e = 0; e < routing.experts(); e++) {
      int rows = w.pairs(e) == null ? 0 : places[e + 1];
      addChunks(w.pairs(e), places[e], places[e] + rows);
      places[e + 1] = places[e] + rows;
    }
    routedRows = places[routing.experts()];
    for (int i = groups.starts()[g]; i < groups.starts()[g + 1]; i++) {
      int first = groups.rows()[i] * topK;
      for (int r = first; r < first + topK; r++) {
        if (w.pairs(choices[r]) != null) {
          order[places[choices[r]]++] = r;
        }
      }
    }
  }

  private void addChunks(LoraPair[] pairs, int from, int to) {
    int n = Math.ceilDiv(to - from, LoraKernels.MAX_ROWS);
    for (int c = 0; c < n; c++) {
      chunks.add(new Chunk(pairs, from + (to - from) * c / n, from + (to - from) * (c + 1) / n));
    }
  }

  /** All chunks. */
  List<Chunk> chunks() {
    return chunks;
  }

  /** Number of routed rows that have weights. */
  int routedRows() {
    return routedRows;
  }

  /** Routed rows by adapter, then expert. */
  int[] order() {
    return order;
  }

  /** What a product is multiplied by: the routing's weight times the pair's scale. */
  float factor(int place, LoraPair pair) {
    return routing.weights()[order[place]] * pair.scale();
  }

  /**
   * What is summed for the rows of groups with weights: places are those of {@link #order}, in the
   * order of a row's choices, each as it is.
   */
  RowTerms terms() {
    int topK = routing.topK();
    int[] places = new int[routing.rows() * topK];
    for (int i = 0; i < routedRows; i++) {
      places[order[i]] = i;
    }
    int[] rows = new int[groups.rows().length];
    int[] starts = new int[rows.length + 1];
    int[] termPlaces = new int[routedRows];
    float[] ones = new float[routedRows];
    Arrays.fill(ones, 1);
    int n = 0;
    int terms = 0;
    for (int g = 0; g < groups.groups(); g++) {
      for (int i = groups.starts()[g]; weights.get(g) != null && i < groups.starts()[g + 1]; i++) {
        int row = groups.rows()[i];
        for (int r = row * topK; r < (row + 1) * topK; r++) {
          if (weights(g).pairs(routing.choices()[r]) != null) {
            termPlaces[terms++] = places[r];
          }
        }
        rows[n++] = row;
        starts[n] = terms;
      }
    }
    return new RowTerms(Arrays.copyOf(rows, n), Arrays.copyOf(starts, n + 1), termPlaces, ones);
  }

  private CpuExpertLoraWeights weights(int g) {
    return (CpuExpertLoraWeights) weights.get(g);
  }
}
