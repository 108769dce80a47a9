package io.infinilora.backend.cuda;

import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.cuda.LoraKernels.Products;
import io.infinilora.backend.cuda.LoraTiling.Clusters;
import io.infinilora.backend.cuda.LoraTiling.Expand;
import io.infinilora.backend.cuda.LoraTiling.Shrink;
import java.util.Arrays;
import java.util.List;
import java.util.function.ToIntFunction;

/**
 * Low-rank products of dense sites: the host makes the tiles, since it knows the rows. In a step
 * that may be recorded, all adapters go through the kernels for few rows, with room for any
 * distribution of the rows over as many adapters.
 */
final class DenseLora {
  private final CudaStream stream;
  private final LoraKernels kernels;
  private final LoraCapacity capacity;

  /** Rows of the sorted order, and the weights that they go through. */
  private record Group(int begin, int count, CudaLoraWeights weights) {}

  DenseLora(CudaStream stream, LoraKernels kernels) {
    this.stream = stream;
    this.kernels = kernels;
    capacity = new LoraCapacity(stream);
  }

  /** What was checked. */
  void add(RowGroups groups, List<LoraWeights> weights, CudaTensor x, CudaTensor[] outs) {
    Group[] active = active(groups, weights);
    if (active.length == 0) {
      return;
    }
    int sorted = groups.rows().length;
    int rows = capacity.padded() ? capacity.rows(x.rows()) : sorted;
    int rankBlocks = capacity.count(most(active, g -> g.weights().rankBlocks()));
    int rank =
        LoraPieces.RANK_BLOCK
            * capacity.count(
                LoraPieces.rankBlocks(
                    most(active, g -> Arrays.stream(g.weights().ranks()).max().orElse(0))));
    int[] features =
        Arrays.stream(outs).mapToInt(out -> out == null ? 0 : out.paddedCols()).toArray();

    Clusters clusters = kernels.clusters(x);
    int stride = rankBlocks * LoraPieces.RANK_BLOCK;
    long sortedRows = stream.upload(groups.rows(), 0, sorted, rows);
    long v = stream.scratch(4L * clusters.splits() * rows * stride);
    Products products = new Products(x, sortedRows, sortedRows, 0, v, stride, rows);
    shrink(active, rows, rankBlocks, clusters, products);
    expand(active, rows, features, rank, products, outs);
  }

  private static Group[] active(RowGroups groups, List<LoraWeights> weights) {
    Group[] all = new Group[groups.groups()];
    int n = 0;
    for (int g = 0; g < all.length; g++) {
      int begin = groups.starts()[g];
      int count = groups.starts()[g + 1] - begin;
      if (count > 0 && weights.get(g) instanceof CudaLoraWeights w && w.rankBlocks() > 0) {
        all[n++] = new Group(begin, count, w);
      }
    }
    return Arrays.copyOf(all, n);
  }

  private static int most(Group[] groups, ToIntFunction<Group> of) {
    return Arrays.stream(groups).mapToInt(of).max().orElse(0);
  }

  private static RowCounts counts(Group[] groups) {
    return RowCounts.of(Arrays.stream(groups).mapToInt(Group::count).toArray());
  }

  /** What any batch of the bucket is cut for. */
  private RowCounts alike(Group[] groups, int rows) {
    int number = capacity.count(groups.length);
    return RowCounts.alike(number, Math.ceilDiv(rows, number));
  }

  private static Group[] below(Group[] groups, int rows) {
    return Arrays.stream(groups).filter(g -> g.count() < rows).toArray(Group[]::new);
  }

  private static Group[] from(Group[] groups, int rows) {
    return Arrays.stream(groups).filter(g -> g.count() >= rows).toArray(Group[]::new);
  }

  /** Tiles of at most so many rows, if groups are cut. */
  private int mostTiles(Group[] groups, int rows, int tileRows) {
    return capacity.padded()
        ? LoraTiling.mostTiles(rows, capacity.count(groups.length), tileRows)
        : (int) counts(groups).tiles(tileRows);
  }

  private void shrink(
      Group[] groups, int rows, int rankBlocks, Clusters clusters, Products products) {
    if (capacity.padded()) {
      Shrink tiling = LoraTiling.fewShrink(alike(groups, rows), clusters, rankBlocks);
      shrink(false, groups, rows, tiling, products);
      return;
    }
    int limit = kernels.many() ? LoraTiling.manyShrinkFrom(counts(groups)) : Integer.MAX_VALUE;
    Group[] few = below(groups, limit);
    Group[] many = from(groups, limit);
    shrink(false, few, rows, LoraTiling.fewShrink(counts(few), clusters, rankBlocks), products);
    shrink(true, many, rows, LoraTiling.manyShrink(counts(many), clusters, rankBlocks), products);
  }

  private void shrink(boolean forMany, Group[] groups, int rows, Shrink tiling, Products products) {
    if (groups.length == 0) {
      return;
    }
    LoraTiles tiles = new LoraTiles(1, mostTiles(groups, rows, tiling.rows()));
    for (Group g : groups) {
      tiles.add(g.begin(), g.count(), tiling.rows(), g.weights().nameA());
    }
    kernels.shrink(forMany, upload(tiles), false, tiling, products);
  }

  private void expand(
      Group[] groups, int rows, int[] features, int rank, Products products, CudaTensor[] outs) {
    if (capacity.padded()) {
      Expand tiling = LoraTiling.fewExpand(alike(groups, rows), features, rank);
      expand(false, groups, rows, tiling, products, outs);
      return;
    }
    int limit =
        kernels.many()
            ? LoraTiling.manyExpandFrom(counts(groups), features, rank)
            : Integer.MAX_VALUE;
    Group[] few = below(groups, limit);
    Group[] many = from(groups, limit);
    expand(false, few, rows, LoraTiling.fewExpand(counts(few), features, rank), products, outs);
    expand(true, many, rows, LoraTiling.manyExpand(counts(many), features), products, outs);
  }

  private void expand(
      boolean forMany,
      Group[] groups,
      int rows,
      Expand tiling,
      Products products,
      CudaTensor[] outs) {
    if (groups.length == 0) {
      return;
    }
    LoraTiles tiles = new LoraTiles(outs.length, mostTiles(groups, rows, tiling.rows()));
    for (Group g : groups) {
      tiles.add(g.begin(), g.count(), tiling.rows(), g.weights().namesB());
    }
    kernels.expand(forMany, upload(tiles), tiling, products, true, outs);
  }

  private DeviceTiles upload(LoraTiles tiles) {
    long[] values = tiles.values();
    return tiles.at(stream.upload(values, 0, values.length, values.length));
  }
}
