package io.infinilora.backend.cpu;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.RowGroups;
import java.util.Arrays;
import java.util.List;

/**
 * The routed rows of a step by adapter and expert, as far as the adapters have their experts, cut
 * into chunks of at most {@link LoraKernels#MAX_ROWS}.
 */
final class ExpertLoraPlan {
  private static final int FIELDS = 4;

  private final RowGroups groups;
  private final List<ExpertLoraWeights> weights;
  private final CpuRouting routing;

  /** Routed rows by adapter, then expert, then as the group has them. */
  private final int[] order;

  /** Per chunk: group, expert, first and end place in {@link #order}. */
  private int[] chunks;

  private int count;
  private int routedRows;

  ExpertLoraPlan(RowGroups groups, List<ExpertLoraWeights> weights, CpuRouting routing) {
    this.groups = groups;
    this.weights = weights;
    this.routing = routing;
    order = new int[groups.rows().length * routing.topK()];
    chunks = new int[16 * FIELDS];
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
      addChunks(g, e, places[e], places[e] + rows);
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

  private void addChunks(int g, int expert, int from, int to) {
    int n = Math.ceilDiv(to - from, LoraKernels.MAX_ROWS);
    for (int c = 0; c < n; c++) {
      int at = FIELDS * count++;
      if (at == chunks.length) {
        chunks = Arrays.copyOf(chunks, 2 * at);
      }
      chunks[at] = g;
      chunks[at + 1] = expert;
      chunks[at + 2] = from + (to - from) * c / n;
      chunks[at + 3] = from + (to - from) * (c + 1) / n;
    }
  }

  /** Number of chunks. */
  int chunks() {
    return count;
  }

  /** Number of routed rows that have weights. */
  int routedRows() {
    return routedRows;
  }

  /** Routed rows by adapter, then expert. */
  int[] order() {
    return order;
  }

  /**
   * What is summed for the rows of groups with weights: places are those of {@link #order}, in the
   * order of a row's choices, weighted by the routing and the pair's scale.
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
    float[] termWeights = new float[routedRows];
    int n = 0;
    int terms = 0;
    for (int g = 0; g < groups.groups(); g++) {
      for (int i = groups.starts()[g]; weights.get(g) != null && i < groups.starts()[g + 1]; i++) {
        int row = groups.rows()[i];
        for (int r = row * topK; r < (row + 1) * topK; r++) {
          LoraPair[] pairs = weights(g).pairs(routing.choices()[r]);
          if (pairs != null) {
            termPlaces[terms] = places[r];
            termWeights[terms] = routing.weights()[r] * pairs[0].scale();
            terms++;
          }
        }
        rows[n++] = row;
        starts[n] = terms;
      }
    }
    return new RowTerms(
        Arrays.copyOf(rows, n), Arrays.copyOf(starts, n + 1), termPlaces, termWeights);
  }

  private CpuExpertLoraWeights weights(int g) {
    return (CpuExpertLoraWeights) weights.get(g);
  }

  /** The adapter of a chunk. */
  CpuExpertLoraWeights weightsOf(int chunk) {
    return weights(chunks[FIELDS * chunk]);
  }

  /** The pairs of a chunk. */
  LoraPair[] pairs(int chunk) {
    return weightsOf(chunk).pairs(chunks[FIELDS * chunk + 1]);
  }

  /** Place of a chunk's first routed row in {@link #order}. */
  int from(int chunk) {
    return chunks[FIELDS * chunk + 2];
  }

  /** Place after a chunk's last routed row. */
  int to(int chunk) {
    return chunks[FIELDS * chunk + 3];
  }
}
