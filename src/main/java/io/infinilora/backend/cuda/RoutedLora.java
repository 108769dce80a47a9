package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.cuda.LoraKernels.Products;
import io.infinilora.backend.cuda.LoraTiling.Clusters;
import io.infinilora.backend.cuda.LoraTiling.Expand;
import io.infinilora.backend.cuda.LoraTiling.Shrink;
import java.util.Arrays;
import java.util.List;

/**
 * Low-rank products of routed layers: the device makes the tiles, since it alone knows the choices.
 * Launches have room for any choices. More adapters than a plan can count are computed in parts.
 */
final class RoutedLora {
  private static final int ALIGNMENT = 256;

  private final CudaStream stream;
  private final LoraKernels kernels;
  private final LoraCapacity capacity;

  /** What becomes of the products. */
  private enum Use {
    /** Added per choice, x being the row's. */
    ADD,
    /** Weighted and added per choice. */
    TERMS,
    /** Weighted and summed. */
    COMBINE
  }

  /** Parts of the scratch memory, by what they take. */
  private static final class Parts {
    private long end;

    long take(long bytes) {
      long at = end;
      end += Math.ceilDiv(bytes, (long) ALIGNMENT) * ALIGNMENT;
      return at;
    }
  }

  RoutedLora(CudaStream stream, LoraKernels kernels) {
    this.stream = stream;
    this.kernels = kernels;
    capacity = new LoraCapacity(stream);
  }

  /** See {@link LoraOps#expertLoraAdd}. */
  void add(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CudaRouting routing,
      CudaTensor x,
      CudaTensor[] outs) {
    run(groups, weights, routing, x, Use.ADD, outs);
  }

  /** See {@link LoraOps#expertLoraTerms}. */
  void terms(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CudaRouting routing,
      CudaTensor x,
      CudaTensor out) {
    run(groups, weights, routing, x, Use.TERMS, out);
  }

  /** See {@link LoraOps#expertLoraCombine}. */
  void combine(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CudaRouting routing,
      CudaTensor x,
      CudaTensor out) {
    run(groups, weights, routing, x, Use.COMBINE, out);
  }

  private void run(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CudaRouting routing,
      CudaTensor x,
      Use use,
      CudaTensor... outs) {
    int most = Math.max(1, kernels.mostPairs() / routing.experts());
    // In powers of two, since that is what they may be rounded up to.
    most = Integer.highestOneBit(most);
    int[] part = new int[groups.groups()];
    int n = 0;
    for (int g = 0; g < groups.groups(); g++) {
      if (weights.get(g) != null && groups.starts()[g + 1] > groups.starts()[g]) {
        part[n++] = g;
      }
      if (n == most || (n > 0 && g + 1 == groups.groups())) {
        new Part(groups, Arrays.copyOf(part, n), weights, routing, x, use, outs).run();
        n = 0;
      }
    }
  }

  /** Some of the adapters. */
  private final class Part {
    private final RowGroups groups;
    private final int[] chosen;
    private final List<ExpertLoraWeights> weights;
    private final CudaRouting routing;
    private final CudaTensor x;
    private final Use use;
    private final CudaTensor[] outs;

    private final int rows;
    private final int number;
    private final int rankBlocks;
    private final int rank;

    Part(
        RowGroups groups,
        int[] chosen,
        List<ExpertLoraWeights> weights,
        CudaRouting routing,
        CudaTensor x,
        Use use,
        CudaTensor[] outs) {
      this.groups = groups;
      this.chosen = chosen;
      this.weights = weights;
      this.routing = routing;
      this.x = x;
      this.use = use;
      this.outs = outs;
      rows = capacity.rows(routing.rows());
      number = capacity.count(chosen.length);
      int blocks = 0;
      int ranks = 0;
      for (int g : chosen) {
        blocks = Math.max(blocks, weights(g).rankBlocks());
        ranks = Math.max(ranks, weights(g).mostRank());
      }
      rankBlocks = capacity.count(blocks);
      rank = LoraPieces.RANK_BLOCK * capacity.count(LoraPieces.rankBlocks(ranks));
    }

    private CudaExpertLoraWeights weights(int group) {
      return (CudaExpertLoraWeights) weights.get(group);
    }

    void run() {
      int routed = rows * routing.topK();
      int pairs = number * routing.experts();
      int members = capacity.padded() ? routed : members() * routing.topK();
      RowCounts counts = LoraTiling.routed(members, pairs);
      int[] features =
          Arrays.stream(outs).mapToInt(out -> out == null ? 0 : out.paddedCols()).toArray();
      Clusters clusters = kernels.clusters(x);
      boolean manyShrink =
          !capacity.padded()
              && kernels.many()
              && counts.most() >= LoraTiling.manyShrinkFrom(counts);
      boolean manyExpand =
          !capacity.padded()
              && kernels.many()
              && counts.most() >= LoraTiling.manyExpandFrom(counts, features, rank);
      Shrink shrink =
          manyShrink
              ? LoraTiling.manyShrink(counts, clusters, rankBlocks)
              : LoraTiling.fewShrink(counts, clusters, rankBlocks);
      Expand expand =
          manyExpand
              ? LoraTiling.manyExpand(counts, features)
              : LoraTiling.fewExpand(counts, features, rank);
      int shrinkTiles = LoraTiling.mostTiles(members, pairs, shrink.rows());
      int expandTiles = LoraTiling.mostTiles(members, pairs, expand.rows());
      int stride = rankBlocks * LoraPieces.RANK_BLOCK;

      Parts parts = new Parts();
      long xRows = parts.take(4L * routed);
      long yRows = parts.take(4L * routed);
      long factors = parts.take(4L * routed);
      long hits = parts.take(routed);
      long shrinkAt = parts.take(8L * shrinkTiles);
      long shrinkNames = parts.take(8L * shrinkTiles);
      long expandAt = parts.take(8L * expandTiles);
      long expandNames = parts.take(8L * expandTiles * outs.length);
      long v = parts.take(4L * clusters.splits() * routed * stride);
      long terms = parts.take(use == Use.COMBINE ? 2L * routed * outs[0].paddedCols() : 0);
      long base = stream.scratch(parts.end);

      boolean weighted = use != Use.ADD;
      Products products =
          new Products(
              x,
              base + xRows,
              base + yRows,
              weighted ? base + factors : 0,
              base + v,
              stride,
              routed);
      DeviceTiles shrinkList = new DeviceTiles(base + shrinkAt, base + shrinkNames, shrinkTiles);
      DeviceTiles expandList = new DeviceTiles(base + expandAt, base + expandNames, expandTiles);
      long groupOf = uploadGroups();
      long sites = uploadSites();
      kernels.plan(
          groupOf,
          sites,
          number,
          routing,
          rows,
          use != Use.ADD,
          shrink.rows(),
          shrinkList,
          expand.rows(),
          expandList,
          products,
          use == Use.COMBINE ? base + hits : 0,
          outs);
      kernels.shrink(manyShrink, shrinkList, true, shrink, products);
      if (use == Use.COMBINE) {
        kernels.expand(
            manyExpand, expandList, expand, products, false, scratchTerms(base + terms, routed));
        kernels.combine(base + terms, base + hits, routing.topK(), rows, outs[0]);
      } else {
        kernels.expand(manyExpand, expandList, expand, products, true, outs);
      }
    }

    private CudaTensor scratchTerms(long address, int routed) {
      CudaTensor out = outs[0];
      return new CudaTensor(
          out.owner(), address, routed, out.cols(), out.paddedCols(), false, routed);
    }

    private int members() {
      int members = 0;
      for (int g : chosen) {
        members += groups.starts()[g + 1] - groups.starts()[g];
      }
      return members;
    }

    private long uploadGroups() {
      int[] groupOf = new int[rows];
      Arrays.fill(groupOf, -1);
      for (int i = 0; i < chosen.length; i++) {
        for (int r = groups.starts()[chosen[i]]; r < groups.starts()[chosen[i] + 1]; r++) {
          groupOf[groups.rows()[r]] = i;
        }
      }
      return stream.upload(groupOf, 0, rows, rows);
    }

    private long uploadSites() {
      long[] tables = new long[chosen.length];
      for (int i = 0; i < chosen.length; i++) {
        tables[i] = weights(chosen[i]).table();
      }
      return stream.upload(tables, 0, tables.length, number);
    }
  }
}
