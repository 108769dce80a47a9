package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.infinilora.backend.cuda.LoraTiling.Clusters;
import io.infinilora.backend.cuda.LoraTiling.Expand;
import io.infinilora.backend.cuda.LoraTiling.Shrink;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;

/**
 * Launches the kernels of {@code lora_decode.cu}, {@code lora_rows.cu} and {@code lora_experts.cu}.
 */
final class LoraKernels {
  private static final int SHRINK_THREADS = 256;
  private static final int EXPAND_THREADS = 128;
  private static final int COMBINE_THREADS = 128;
  private static final int PLAN_THREADS = 1024;
  private static final int MIN_PLAN_THREADS = 128;
  private static final int SHRINK_ROWS_SHARED = 112 << 10;

  /** Shared memory for a plan's counters. */
  private static final int PLAN_SHARED = 200 << 10;

  /** Bytes of shared memory per adapter and expert. */
  private static final int PLAN_BYTES = 4;

  private static final int PLAN_FEW_BYTES = 12;

  /** Routed rows above which a plan takes {@link #PLAN_MANY_BLOCKS} blocks. */
  private static final int PLAN_MANY_ROWS = 4096;

  private static final int PLAN_MANY_BLOCKS = 8;

  /** Routed rows up to which a plan fetches tables: one multiprocessor would take too long. */
  private static final int FETCH_TABLES = 512;

  /**
   * Blocks of the shrink kernel for few rows from which on others that stay and take one part of
   * the work after another are faster; tiles without rows, which a plan leaves, count.
   */
  private static final int LARGE = 1024;

  private static final int LARGE_PLANNED = 1536;

  /**
   * Blocks per multiprocessor that share the work of the shrink kernel for few rows. Four would run
   * at once; three leave room for the first ones of the expand kernel.
   */
  private static final double SHRINK_BLOCKS = 384 / 132.0;

  private static final int TARGET_BYTES = 32;

  private final CudaStream stream;
  private final boolean hopper;
  private final int planShared;
  private final int shrinkBlocks;
  private final Kernel shrink;
  private final Kernel shrinkLarge;
  private final Kernel expand;
  private final Kernel plan;
  private final Kernel planFew;
  private final Kernel combine;

  /** Null where shared memory does not suffice. */
  private final Kernel shrinkRows;

  private final Kernel expandRows;

  /** Structures that are passed by value. */
  private final MemorySegment targets =
      Arena.ofAuto().allocate((long) TARGET_BYTES * LoraLayout.MAX_TARGETS, 8);

  /**
   * What both kernels share in an operator.
   *
   * @param xRows rows of x by sorted row
   * @param yRows rows of the outputs by sorted row
   * @param factors by sorted row, or 0
   * @param v the product of A and x, float32
   * @param vStride its width
   * @param vRows its rows
   */
  record Products(
      CudaTensor x, long xRows, long yRows, long factors, long v, int vStride, int vRows) {}

  LoraKernels(CudaStream stream) {
    CudaDevice device = stream.device();
    this.stream = stream;
    hopper = device.hopper();
    shrinkBlocks = (int) (SHRINK_BLOCKS * device.multiprocessors());
    shrink = device.kernel("lora_decode", "lora_shrink");
    shrinkLarge = device.kernel("lora_decode", "lora_shrink_large");
    expand = device.kernel("lora_decode", "lora_expand");
    boolean large = device.sharedMemory() >= SHRINK_ROWS_SHARED;
    shrinkRows =
        large
            ? device.kernel("lora_rows", "lora_shrink_rows").sharedLimit(SHRINK_ROWS_SHARED)
            : null;
    expandRows = device.kernel("lora_rows", "lora_expand_rows");
    planShared = hopper ? PLAN_SHARED : PLAN_SHARED / 4;
    plan = device.kernel("lora_experts", "lora_plan").sharedLimit(planShared);
    planFew = device.kernel("lora_experts", "lora_plan_few").sharedLimit(planShared);
    combine = device.kernel("lora_experts", "lora_combine");
  }

  /** Whether there are kernels for many rows. */
  boolean many() {
    return shrinkRows != null;
  }

  /** How x of this width is reduced. */
  Clusters clusters(CudaTensor x) {
    return Clusters.of(x.cols(), hopper);
  }

  /** Adapters times experts that can be computed at once. */
  int mostPairs() {
    return Math.min(LoraTiling.MAX_PAIRS, planShared / PLAN_BYTES);
  }

  /**
   * {@code v = A x}.
   *
   * @param planned whether a kernel made the tiles
   */
  void shrink(
      boolean forMany, DeviceTiles tiles, boolean planned, Shrink tiling, Products products) {
    Clusters clusters = clusters(products.x());
    long blocks = (long) clusters.all() * tiles.capacity() * tiling.shares();
    boolean large = !forMany && blocks >= (planned ? LARGE_PLANNED : LARGE);
    Launch launch =
        stream
            .launch(forMany ? shrinkRows : large ? shrinkLarge : shrink)
            .pointer(tiles.rows())
            .pointer(tiles.names());
    if (large) {
      launch
          .int32(tiles.capacity())
          .int32(tiling.shares())
          .int32(clusters.splits())
          .grid(clusters.blocks() * Math.max(1, shrinkBlocks / clusters.blocks()));
    } else {
      launch.grid(clusters.all(), tiles.capacity(), tiling.shares());
    }
    launch
        .int32(planned ? 1 : 0)
        .pointer(products.x().address())
        .int64(products.x().stride())
        .pointer(products.xRows())
        .int32(products.x().paddedCols())
        .pointer(products.v())
        .int32(products.vStride())
        .int32(products.vRows())
        .block(SHRINK_THREADS)
        .shared(forMany ? SHRINK_ROWS_SHARED : 0)
        .cluster(clusters.blocks())
        .dependent()
        .go();
  }

  /**
   * {@code outs = B v} or {@code outs += B v}, scaled.
   *
   * @param outs one per target; null where no adapter has it
   */
  void expand(
      boolean forMany,
      DeviceTiles tiles,
      Expand tiling,
      Products products,
      boolean add,
      CudaTensor... outs) {
    Launch launch = stream.launch(forMany ? expandRows : expand).pointer(tiles.rows());
    for (int t = 0; t < LoraLayout.MAX_TARGETS; t++) {
      launch.bytes(target(t, tiles, tiling, outs));
    }
    if (!forMany) {
      launch.int32(tiling.most());
    }
    launch
        .pointer(products.v())
        .int32(products.vStride())
        .int32(products.vRows())
        .int32(clusters(products.x()).splits())
        .pointer(products.yRows())
        .pointer(products.factors())
        .int32(add ? 1 : 0)
        .grid(tiles.capacity(), tiling.allShares())
        .block(EXPAND_THREADS)
        .dependent()
        .go();
  }

  private MemorySegment target(int t, DeviceTiles tiles, Expand tiling, CudaTensor[] outs) {
    MemorySegment target = targets.asSlice((long) TARGET_BYTES * t, TARGET_BYTES);
    target.fill((byte) 0);
    if (t < outs.length && outs[t] != null) {
      target.set(JAVA_LONG, 0, tiles.names() + 8L * tiles.capacity() * t);
      target.set(JAVA_LONG, 8, outs[t].address());
      target.set(JAVA_LONG, 16, outs[t].stride());
      target.set(JAVA_INT, 24, outs[t].paddedCols());
      target.set(JAVA_INT, 28, tiling.shares()[t]);
    }
    return target;
  }

  /**
   * Sorts routed rows by adapter and expert and makes tiles of them.
   *
   * @param groupOf adapter of each row
   * @param sites table of each adapter
   * @param groups number of adapters
   * @param rows of the routing to look at
   * @param perChoice whether x has a row per choice
   * @param products among them, factors for the routing's weights or 0
   * @param outs as in {@link #expand}
   * @param hits where to write which routed rows have the first target, or 0
   */
  void plan(
      long groupOf,
      long sites,
      int groups,
      CudaRouting routing,
      int rows,
      boolean perChoice,
      int shrinkRows,
      DeviceTiles shrinkTiles,
      int expandRows,
      DeviceTiles expandTiles,
      Products products,
      long hits,
      CudaTensor... outs) {
    int routed = rows * routing.topK();
    int pairs = groups * routing.experts();
    boolean few = routed <= PLAN_THREADS && pairs <= planShared / PLAN_FEW_BYTES;
    int blocks = few || !hopper || routed <= PLAN_MANY_ROWS ? 1 : PLAN_MANY_BLOCKS;
    int features = 0;
    for (CudaTensor out : outs) {
      features = Math.max(features, out == null ? 0 : out.cols());
    }
    int tableBytes =
        LoraLayout.HEAD_BYTES + Math.ceilDiv(features, LoraPieces.FEATURE_BLOCK) * Long.BYTES;
    boolean fetch = routed <= FETCH_TABLES;
    stream
        .launch(few ? planFew : plan)
        .pointer(groupOf)
        .pointer(sites)
        .pointer(routing.choices())
        .pointer(products.factors() == 0 ? 0 : routing.weights())
        .int32(routed)
        .int32(routing.topK())
        .int32(groups)
        .int32(routing.experts())
        .int32(outs.length)
        .int32(perChoice ? 1 : 0)
        .int32(shrinkRows)
        .int32(shrinkTiles.capacity())
        .int32(expandRows)
        .int32(expandTiles.capacity())
        .int32(fetch ? LoraPieces.chunks(products.x().cols()) * Long.BYTES : 0)
        .int32(fetch ? tableBytes : 0)
        .pointer(products.xRows())
        .pointer(products.yRows())
        .pointer(products.factors())
        .pointer(hits)
        .pointer(shrinkTiles.rows())
        .pointer(shrinkTiles.names())
        .pointer(expandTiles.rows())
        .pointer(expandTiles.names())
        .grid(blocks)
        .block(
            few
                ? Math.clamp(Math.ceilDiv(routed, 32) * 32, MIN_PLAN_THREADS, PLAN_THREADS)
                : PLAN_THREADS)
        .shared(pairs * (few ? PLAN_FEW_BYTES : PLAN_BYTES))
        .cluster(blocks)
        .dependent()
        .go();
  }

  /**
   * Adds the sums of rows' terms.
   *
   * @param terms address of {@code [rows * topK, out.paddedCols()]}
   * @param hits which of them there are
   */
  void combine(long terms, long hits, int topK, int rows, CudaTensor out) {
    int columns = out.paddedCols();
    stream
        .launch(combine)
        .pointer(terms)
        .int64(columns)
        .pointer(hits)
        .int32(topK)
        .int32(columns)
        .pointer(out.address())
        .int64(out.stride())
        .grid(Math.ceilDiv(columns, 8 * COMBINE_THREADS), rows)
        .block(COMBINE_THREADS)
        .dependent()
        .go();
  }
}
