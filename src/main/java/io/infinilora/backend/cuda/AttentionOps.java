package io.infinilora.backend.cuda;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;

/** Rotation, the cache of keys and values, and attention. The stream's thread only. */
final class AttentionOps {
  private static final int MAX_HEAD_DIM = 256;
  private static final int ROPE_THREADS = 256;

  /** Warps per multiprocessor that hide each other's waiting for memory. */
  private static final int ROPE_WARPS = 32;

  private static final int WARP = 32;

  /** Rows of a warp, and of a block of prefill. */
  private static final int WARP_ROWS = 16;

  private static final int TILE_ROWS = 64;

  private static final int PREFILL_THREADS = 128;

  /** The compute capability that attention_hopper.cu is for. */
  private static final int HOPPER = 90;

  private static final int HOPPER_ROWS = 128;

  private static final int HOPPER_THREADS = 384;

  /** Dynamic shared memory of attention_hopper, by variant: alignment, queries, and its ring. */
  private static final int[] HOPPER_SHARED = {1024 + (160 << 10), 1024 + (224 << 10)};

  /** Up to this window, smaller tiles of keys lose less outside of it. */
  private static final int NARROW_WINDOW = 512;

  /** Dynamic shared memory of a block, by variant. */
  private static final int[] PREFILL_SHARED = {32 << 10, 64 << 10, 96 << 10};

  private static final int[] DECODE_SHARED = {64 << 10, 96 << 10, 96 << 10};

  private static final int[] DECODE_THREADS = {128, 128, 64};

  /** Blocks of decode per multiprocessor from which on more splits bring nothing. */
  private static final int[] DECODE_BLOCKS = {2, 1, 1};

  private static final int COMBINE_THREADS = 128;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final Kernel ropeStore;
  private final Kernel combine;

  /** By groups of 64 elements of a head: 1, 2, 4. */
  private final Kernel[] decode = new Kernel[3];

  private final Kernel[] prefill = new Kernel[3];

  /** For groups of 1 and 2; null on other devices. */
  private final Kernel[] hopper;

  /** The same, with tiles of 64 keys. */
  private final Kernel[] hopperNarrow;

  /** What {@link #tables} has found right. */
  private BatchLayout checkedBatch;

  private CudaKvCache checkedCache;

  AttentionOps(CudaStream stream, CudaChecks checks) {
    this.stream = stream;
    this.checks = checks;
    CudaDevice device = stream.device();
    ropeStore = device.kernel("rope", "rope_store");
    combine = device.kernel("attention_decode", "attention_combine");
    for (int i = 0; i < decode.length; i++) {
      decode[i] = device.kernel("attention_decode", "attention_decode_" + (1 << i));
      decode[i].sharedLimit(DECODE_SHARED[i]);
      prefill[i] = device.kernel("attention_prefill", "attention_prefill_" + (1 << i));
      prefill[i].sharedLimit(PREFILL_SHARED[i]);
    }
    boolean isHopper = device.computeCapability() == HOPPER;
    hopper = isHopper ? new Kernel[HOPPER_SHARED.length] : null;
    hopperNarrow = isHopper ? new Kernel[HOPPER_SHARED.length] : null;
    for (int i = 0; isHopper && i < HOPPER_SHARED.length; i++) {
      String name = "attention_hopper_" + (1 << i);
      hopper[i] = device.kernel("attention_hopper", name + "_128").sharedLimit(HOPPER_SHARED[i]);
      hopperNarrow[i] =
          device.kernel("attention_hopper", name + "_64").sharedLimit(HOPPER_SHARED[i]);
    }
  }

  private CudaKvCache cache(KvCache cache, int layer) {
    if (!(cache instanceof CudaKvCache c)) {
      throw new IllegalArgumentException("the cache belongs to another backend");
    }
    checks.owned(c.owner(), "the cache");
    checks.that(
        layer >= 0 && layer < c.layout().layers(),
        () -> "layer %d of a cache of %d".formatted(layer, c.layout().layers()));
    checks.that(
        c.layout().headDim() <= MAX_HEAD_DIM,
        () -> "heads of %d elements; at most %d".formatted(c.layout().headDim(), MAX_HEAD_DIM));
    return c;
  }

  /** Whether every position lies in a block that exists. */
  private void tables(BatchLayout batch, CudaKvCache cache) {
    if (batch == checkedBatch && cache == checkedCache) {
      return; // By an earlier layer.
    }
    checks.that(
        batch.rowStart().length == batch.sequences() + 1
            && batch.rowStart()[batch.sequences()] == batch.rows(),
        () -> "first rows of %d sequences do not fit".formatted(batch.sequences()));
    int blockSize = cache.blockSize();
    for (int s = 0; s < batch.sequences(); s++) {
      int first = batch.rowStart()[s];
      int end = batch.rowStart()[s + 1];
      for (int r = first; r < end; r++) {
        int row = r;
        checks.that(
            batch.positions()[r] == batch.positions()[first] + r - first
                && batch.positions()[r] >= 0,
            () -> "position %d of row %d".formatted(batch.positions()[row], row));
      }
      if (end == first) {
        continue;
      }
      int last = batch.positions()[end - 1];
      int[] table = batch.blockTables()[s];
      int sequence = s;
      checks.that(
          last / blockSize < table.length,
          () ->
              "position %d of sequence %d is beyond its %d blocks of %d"
                  .formatted(last, sequence, table.length, blockSize));
      for (int block : table) {
        checks.that(
            block >= 0 && block < cache.blocks(),
            () -> "block %d of a cache of %d".formatted(block, cache.blocks()));
      }
    }
    checkedBatch = batch;
    checkedCache = cache;
  }

  /** See {@link io.infinilora.backend.OpStream#prepareAttention}. */
  void prepare(
      DeviceBatch onDevice,
      BatchLayout batch,
      float bound,
      Vec qNorm,
      Vec kNorm,
      float eps,
      RopeTable rope,
      Tensor queries,
      Tensor keys,
      Tensor values,
      KvCache kvCache,
      int layer) {
    CudaKvCache cache = cache(kvCache, layer);
    KvLayout layout = cache.layout();
    int dim = layout.headDim();
    if (!(rope instanceof CudaRopeTable table)) {
      throw new IllegalArgumentException("the rotation belongs to another backend");
    }
    checks.owned(table.owner(), "the rotation");
    checks.that(
        table.headDim() == dim,
        () -> "a rotation for heads of %d, not %d".formatted(table.headDim(), dim));
    CudaTensor q = checks.tensor(queries, batch.rows(), queries.cols(), "q");
    CudaTensor k = checks.tensor(keys, batch.rows(), layout.kvHeads() * dim, "k");
    CudaTensor v = checks.tensor(values, batch.rows(), layout.kvHeads() * dim, "v");
    checks.that(
        q.cols() % k.cols() == 0,
        () -> "q of %d columns for keys of %d".formatted(q.cols(), k.cols()));
    checks.that(!q.wide() && !k.wide() && !v.wide(), () -> "q, k and v must be bf16");
    long qWeights = qNorm == null ? 0 : checks.vec(qNorm, dim, "the norm of q").address();
    long kWeights = kNorm == null ? 0 : checks.vec(kNorm, dim, "the norm of k").address();
    tables(batch, cache);
    if (batch.rows() == 0) {
      return;
    }
    int parts = ropeParts(onDevice.rows(), q.cols() / dim + 2 * layout.kvHeads(), dim);
    stream
        .launch(ropeStore)
        .pointer(q.address())
        .int64(q.stride())
        .pointer(k.address())
        .int64(k.stride())
        .pointer(v.address())
        .int64(v.stride())
        .pointer(onDevice.positions())
        .pointer(onDevice.sequence())
        .pointer(onDevice.tables())
        .int32(onDevice.tableStride())
        .int32(q.cols() / dim)
        .int32(layout.kvHeads())
        .int32(dim)
        .pointer(table.turns())
        .float32(table.magnitude())
        .float32(bound)
        .pointer(qWeights)
        .pointer(kWeights)
        .float32(eps)
        .pointer(cache.layer(layer))
        .int32(layout.blockSize())
        .int32(onDevice.rows())
        .int32(parts)
        .grid(Math.ceilDiv(onDevice.rows() * parts, ROPE_THREADS / WARP))
        .block(ROPE_THREADS)
        .dependent()
        .go();
  }

  /** See {@link io.infinilora.backend.OpStream#attention}. */
  void attention(
      DeviceBatch onDevice,
      BatchLayout batch,
      Tensor queries,
      KvCache kvCache,
      int layer,
      AttentionParams params,
      Tensor result) {
    CudaKvCache cache = cache(kvCache, layer);
    KvLayout layout = cache.layout();
    checks.that(
        params.headDim() == layout.headDim() && params.kvHeads() == layout.kvHeads(),
        () -> "attention %s with a cache for %s".formatted(params, layout));
    checks.that(params.scale() > 0, () -> "scores times " + params.scale());
    CudaTensor q = checks.tensor(queries, batch.rows(), params.heads() * params.headDim(), "q");
    CudaTensor out = checks.sameShape(result, q, "out");
    checks.that(!q.wide() && !out.wide(), () -> "q and out must be bf16");
    long sinks =
        params.sinks() == null
            ? 0
            : checks.vec(params.sinks(), params.heads(), "the sinks").address();
    tables(batch, cache);
    if (batch.rows() == 0) {
      return;
    }
    int single = 0;
    int several = 0;
    for (int s = 0; s < batch.sequences(); s++) {
      int rows = batch.rowStart()[s + 1] - batch.rowStart()[s];
      single += rows == 1 ? 1 : 0;
      several += rows > 1 ? 1 : 0;
    }
    if (several > 0) {
      prefill(onDevice, batch, q, cache, layer, params, sinks, out);
    }
    if (single > 0) {
      decode(onDevice, q, cache, layer, params, sinks, out);
    }
  }

  /** Warps per row: with few rows, none has to take a second helping of heads. */
  private int ropeParts(int rows, int heads, int dim) {
    int atOnce = dim % 16 != 0 ? 1 : dim <= 64 ? 8 : dim <= 128 ? 4 : 2;
    int most = Math.ceilDiv(heads, atOnce);
    return Math.clamp(ROPE_WARPS * stream.device().multiprocessors() / rows, 1, most);
  }

  private static int variant(int headDim) {
    return headDim <= 64 ? 0 : headDim <= 128 ? 1 : 2;
  }

  private Launch begin(
      Kernel kernel,
      DeviceBatch batch,
      CudaTensor q,
      CudaKvCache cache,
      int layer,
      AttentionParams params,
      long sinks,
      CudaTensor out) {
    return stream
        .launch(kernel)
        .pointer(q.address())
        .int64(q.stride())
        .pointer(batch.positions())
        .pointer(batch.tables())
        .int32(batch.tableStride())
        .int32(params.heads())
        .int32(params.kvHeads())
        .int32(params.headDim())
        .pointer(cache.layer(layer))
        .int32(cache.blockSize())
        .int32(params.window())
        .float32(params.scale())
        .pointer(sinks)
        .pointer(out.address())
        .int64(out.stride());
  }

  private void decode(
      DeviceBatch batch,
      CudaTensor q,
      CudaKvCache cache,
      int layer,
      AttentionParams params,
      long sinks,
      CudaTensor out) {
    int sequences = batch.sequences();
    int variant = variant(params.headDim());
    int tiles = DecodeSplits.tiles(batch.tableStride() * cache.blockSize(), params.window());
    int headTiles = Math.ceilDiv(params.heads() / params.kvHeads(), WARP_ROWS);
    DecodeSplits splits =
        DecodeSplits.of(
            tiles,
            (long) sequences * params.kvHeads() * headTiles,
            (long) DECODE_BLOCKS[variant] * stream.device().multiprocessors());
    long parts = (long) sequences * params.heads() * splits.most();
    long partialBytes = parts * CudaTensor.padded(params.headDim()) * Float.BYTES;
    long partials = splits.most() == 1 ? 0 : stream.scratch(partialBytes + parts * 2 * Float.BYTES);
    begin(decode[variant], batch, q, cache, layer, params, sinks, out)
        .pointer(batch.rowStart())
        .int32(splits.part())
        .pointer(partials)
        .pointer(partials + partialBytes)
        .grid(splits.most(), params.kvHeads() * headTiles, sequences)
        .block(DECODE_THREADS[variant])
        .shared(DECODE_SHARED[variant])
        .dependent()
        .go();
    if (splits.most() > 1) {
      stream
          .launch(combine)
          .pointer(partials)
          .pointer(partials + partialBytes)
          .int32(splits.most())
          .int32(params.headDim())
          .int32(splits.part())
          .int32(params.window())
          .pointer(batch.positions())
          .pointer(batch.rowStart())
          .pointer(sinks)
          .pointer(out.address())
          .int64(out.stride())
          .grid(params.heads(), sequences)
          .block(COMBINE_THREADS)
          .dependent()
          .go();
    }
  }

  private void prefill(
      DeviceBatch onDevice,
      BatchLayout batch,
      CudaTensor q,
      CudaKvCache cache,
      int layer,
      AttentionParams params,
      long sinks,
      CudaTensor out) {
    int share = params.heads() / params.kvHeads();
    int variant = variant(params.headDim());
    if (hopper != null && variant < hopper.length && params.headDim() % 8 == 0) {
      int[] tiles = PrefillTiles.of(batch, share, HOPPER_ROWS);
      int count = tiles.length / PrefillTiles.INTS;
      long list = stream.upload(tiles, 0, tiles.length, tiles.length);
      boolean narrow = params.window() != 0 && params.window() <= NARROW_WINDOW;
      begin(
              (narrow ? hopperNarrow : hopper)[variant],
              onDevice,
              q,
              cache,
              layer,
              params,
              sinks,
              out)
          .pointer(list)
          .int32(count)
          .grid(Math.min(stream.device().multiprocessors(), count * params.kvHeads()))
          .block(HOPPER_THREADS)
          .shared(HOPPER_SHARED[variant])
          .dependent()
          .go();
      return;
    }
    int[] tiles = PrefillTiles.of(batch, share, TILE_ROWS);
    long list = stream.upload(tiles, 0, tiles.length, tiles.length);
    begin(prefill[variant], onDevice, q, cache, layer, params, sinks, out)
        .pointer(list)
        .grid(tiles.length / PrefillTiles.INTS, params.kvHeads())
        .block(PREFILL_THREADS)
        .shared(PREFILL_SHARED[variant])
        .dependent()
        .go();
  }
}
