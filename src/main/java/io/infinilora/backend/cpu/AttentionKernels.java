package io.infinilora.backend.cpu;

import static io.infinilora.backend.cpu.Memory.ALL;
import static io.infinilora.backend.cpu.Memory.F;
import static io.infinilora.backend.cpu.Memory.LANES;
import static io.infinilora.backend.cpu.Memory.LE;
import static io.infinilora.backend.cpu.Memory.VECTOR_BYTES;

import io.infinilora.backend.AttentionParams;
import jdk.incubator.vector.FloatVector;

/**
 * Causal attention of some rows of one sequence over one key/value head, in two passes: all scores,
 * softmax, then the weighted sum of values in order of position. Each element's sum runs over whole
 * blocks at fixed places; positions outside a row's range take part with weight 0, which changes no
 * bit. So a row's result does not depend on which rows share the tile.
 */
final class AttentionKernels {
  private AttentionKernels() {}

  /**
   * Computes all query heads that share {@code kvHead}, for consecutive rows.
   *
   * @param q first row of queries; out has the same stride
   * @param firstPosition position of the first row
   * @param rows number of rows
   * @param blocks block table of the sequence
   * @param sinks address of one logit per query head, or 0
   */
  static void attend(
      AttentionParams params,
      CpuKvCache cache,
      int layer,
      int kvHead,
      int[] blocks,
      int firstPosition,
      int rows,
      long q,
      long out,
      long stride,
      long sinks,
      Scratch scratch) {
    int headDim = params.headDim();
    int group = params.heads() / params.kvHeads();
    int blockSize = cache.blockSize();
    int lastPosition = firstPosition + rows - 1;
    int from = start(firstPosition, params.window());
    int firstBlock = from / blockSize;
    int blockCount = lastPosition / blockSize - firstBlock + 1;
    int slots = blockCount * cache.positionStride();

    int tile = rows * group;
    long queryStride = 4L * headDim;
    long scoreStride = 4L * (slots + LANES);
    long valueStride = 4L * cache.valueStride();
    long queries =
        scratch.reserve(tile * (queryStride + scoreStride + valueStride) + 3L * VECTOR_BYTES);
    long scores = queries + tile * queryStride;
    long sums = scores + tile * scoreStride;
    long zeros = sums + tile * valueStride;
    long one = zeros + 2L * VECTOR_BYTES;
    Memory.zero(sums, tile * valueStride + 2L * VECTOR_BYTES);

    long headOffset = 4L * kvHead * group * headDim;
    for (int t = 0; t < tile; t++) {
      long head = q + t / group * stride + headOffset + t % group * queryStride;
      scale(head, params.scale(), headDim, queries + t * queryStride);
    }
    scores(
        cache,
        layer,
        kvHead,
        blocks,
        firstBlock,
        blockCount,
        tile,
        queries,
        queryStride,
        zeros,
        scores,
        scoreStride);
    for (int t = 0; t < tile; t++) {
      int position = firstPosition + t / group;
      long row = scores + t * scoreStride;
      mask(row, cache, firstBlock, slots, start(position, params.window()), position);
      float sink =
          sinks == 0
              ? Float.NEGATIVE_INFINITY
              : Memory.get(sinks + 4L * (kvHead * group + t % group));
      softmax(row, slots, sink, one);
    }
    values(cache, layer, kvHead, blocks, from, lastPosition, tile, scores, scoreStride, sums);
    for (int t = 0; t < tile; t++) {
      long head = out + t / group * stride + headOffset + t % group * queryStride;
      Memory.copy(sums + t * valueStride, head, queryStride);
    }
  }

  private static int start(int position, int window) {
    return window == 0 ? 0 : Math.max(0, position - window + 1);
  }

  private static void scale(long x, float factor, int n, long out) {
    int i = 0;
    for (; i + LANES <= n; i += LANES) {
      FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE)
          .mul(factor)
          .intoMemorySegment(ALL, out + 4L * i, LE);
    }
    if (i < n) {
      FloatVector.fromMemorySegment(F, ALL, x + 4L * i, LE, F.indexInRange(0, n - i))
          .mul(factor)
          .intoMemorySegment(ALL, out + 4L * i, LE, F.indexInRange(0, n - i));
    }
  }

  /** Scores of all slots of the blocks, two vectors of positions at a time. */
  private static void scores(
      CpuKvCache cache,
      int layer,
      int kvHead,
      int[] blocks,
      int firstBlock,
      int blockCount,
      int tile,
      long queries,
      long queryStride,
      long zeros,
      long scores,
      long scoreStride) {
    int perBlock = cache.positionStride() / LANES;
    int vectors = blockCount * perBlock;
    long step = 4L * cache.positionStride();
    for (int v = 0; v < vectors; v += 2) {
      // An odd last vector is computed twice; its copy goes to the padding.
      int w = Math.min(v + 1, vectors - 1);
      long keys0 =
          cache.keys(layer, blocks[firstBlock + v / perBlock], kvHead)
              + (long) (v % perBlock) * VECTOR_BYTES;
      long keys1 =
          cache.keys(layer, blocks[firstBlock + w / perBlock], kvHead)
              + (long) (w % perBlock) * VECTOR_BYTES;
      TileKernels.multiply(
          tile,
          keys0,
          keys1,
          step,
          cache.layout().headDim(),
          queries,
          queryStride,
          zeros,
          0,
          scores + (long) v * VECTOR_BYTES,
          scoreStride);
    }
  }

  /** Sets the scores of slots that are no position of {@code from .. to} to minus infinity. */
  private static void mask(
      long row, CpuKvCache cache, int firstBlock, int slots, int from, int to) {
    int blockSize = cache.blockSize();
    int stride = cache.positionStride();
    int first = (from / blockSize - firstBlock) * stride + from % blockSize;
    int last = (to / blockSize - firstBlock) * stride + to % blockSize;
    exclude(row, 0, first);
    exclude(row, last + 1, slots);
    if (stride != blockSize) {
      for (int block = 0; block < slots; block += stride) {
        exclude(row, block + blockSize, block + stride);
      }
    }
  }

  private static void exclude(long row, int from, int to) {
    for (int i = from; i < to; i++) {
      Memory.set(row + 4L * i, Float.NEGATIVE_INFINITY);
    }
  }

  /** Scores to weights, in place; the sink takes part in the sum only. */
  private static void softmax(long row, int slots, float sink, long scratch) {
    float most = Math.max(sink, VectorMath.max(row, slots));
    VectorMath.exp(row, slots, most, 1, row);
    VectorMath.sumVectors(row, slots, scratch);
    float total = VectorMath.sum(scratch) + (float) Math.exp(sink - most);
    float factor = 1 / total;
    scale(row, factor, slots, row);
  }

  private static void values(
      CpuKvCache cache,
      int layer,
      int kvHead,
      int[] blocks,
      int from,
      int to,
      int tile,
      long scores,
      long scoreStride,
      long sums) {
    int blockSize = cache.blockSize();
    long valueStride = 4L * cache.valueStride();
    int firstBlock = from / blockSize;
    for (long panel = 0; panel < valueStride; panel += TileKernels.PANEL_BYTES) {
      for (int b = firstBlock; b <= to / blockSize; b++) {
        // Only positions that this sequence has written: a block may hold another's leftovers.
        int first = b == firstBlock ? from % blockSize : 0;
        int count = (b == to / blockSize ? to % blockSize + 1 : blockSize) - first;
        long slot = (long) (b - firstBlock) * cache.positionStride() + first;
        long v = cache.values(layer, blocks[b], kvHead) + first * valueStride + panel;
        TileKernels.multiply(
            tile,
            v,
            v + VECTOR_BYTES,
            valueStride,
            count,
            scores + 4 * slot,
            scoreStride,
            sums + panel,
            valueStride,
            sums + panel,
            valueStride);
      }
    }
  }

  /** Writes one position's key (transposed) and value of one head. */
  static void write(CpuKvCache cache, int layer, int block, int kvHead, int slot, long k, long v) {
    int headDim = cache.layout().headDim();
    long keys = cache.keys(layer, block, kvHead) + 4L * slot;
    long step = 4L * cache.positionStride();
    for (int d = 0; d < headDim; d++) {
      Memory.set(keys + d * step, Memory.get(k + 4L * d));
    }
    long value = cache.values(layer, block, kvHead) + 4L * slot * cache.valueStride();
    Memory.copy(v, value, 4L * headDim);
  }
}
