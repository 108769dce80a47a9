package io.infinilora.backend.cuda;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.AttentionPreparation;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;

/** Rotation, the cache of keys and values, and attention. The stream's thread only. */
final class AttentionOps {
  private static final int MAX_HEAD_DIM = 256;
  private static final int ROPE_THREADS = 256;

  /** Warps per multiprocessor that hide each other's waiting for memory. */
  private static final int ROPE_WARPS = 32;

  private static final int WARP = 32;

  /** Rows of a block of prefill. */
  private static final int TILE_ROWS = 64;

  private static final int PREFILL_THREADS = 128;

  /** As {@code attention_hopper.cu} has them. */
  private static final int HOPPER_ROWS = 128;

  private static final int HOPPER_THREADS = 384;

  /** Dynamic shared memory of attention_hopper, by variant: alignment, queries, and its ring. */
  private static final int[] HOPPER_SHARED = {1024 + (160 << 10), 1024 + (224 << 10)};

  /** Up to this window, smaller tiles of keys lose less outside of it. */
  private static final int NARROW_WINDOW = 512;

  /** Dynamic shared memory of a block, by variant. */
  private static final int[] PREFILL_SHARED = {32 << 10, 64 << 10, 96 << 10};

  private final CudaStream stream;
  private final CudaChecks checks;
  private final Kernel ropeStore;
  private final DecodeAttention decode;

  /** By groups of 64 elements of a head: 1, 2, 4. */
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
    decode = new DecodeAttention(stream);
    for (int i = 0; i < prefill.length; i++) {
      prefill[i] = device.kernel("attention_prefill", "attention_prefill_" + (1 << i));
      prefill[i].sharedLimit(PREFILL_SHARED[i]);
    }
    boolean isHopper = device.hopper();
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
      AttentionPreparation preparation,
      Tensor queries,
      Tensor keys,
      Tensor values,
      KvCache kvCache,
      int layer) {
    CudaKvCache cache = cache(kvCache, layer);
    RopeTask task = ropeTask(batch, preparation, queries, keys, values, cache.layout());
    tables(batch, cache);
    if (batch.rows() > 0) {
      prepare(onDevice, task, cache, layer);
    }
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
    AttentionTask task = task(batch, queries, cache(kvCache, layer), layer, params, result);
    tables(batch, task.cache());
    if (batch.rows() > 0) {
      attention(onDevice, batch, task);
    }
  }

  /** See {@link io.infinilora.backend.OpStream#attend}. */
  void attend(
      DeviceBatch onDevice,
      BatchLayout batch,
      AttentionPreparation preparation,
      Tensor queries,
      Tensor keys,
      Tensor values,
      KvCache kvCache,
      int layer,
      AttentionParams params,
      Tensor result) {
    CudaKvCache cache = cache(kvCache, layer);
    RopeTask rope = ropeTask(batch, preparation, queries, keys, values, cache.layout());
    AttentionTask task = task(batch, queries, cache, layer, params, result);
    tables(batch, cache);
    if (batch.rows() == 0) {
      return;
    }
    if (batch.isDecode() && DecodeAttention.fuses(params.headDim())) {
      decode.fused(onDevice, task, rope);
    } else {
      prepare(onDevice, rope, cache, layer);
      attention(onDevice, batch, task);
    }
  }

  private RopeTask ropeTask(
      BatchLayout batch,
      AttentionPreparation preparation,
      Tensor queries,
      Tensor keys,
      Tensor values,
      KvLayout layout) {
    int dim = layout.headDim();
    if (!(preparation.rope() instanceof CudaRopeTable table)) {
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
    long qNorm = norm(preparation.qNorm(), dim, "the norm of q");
    long kNorm = norm(preparation.kNorm(), dim, "the norm of k");
    return new RopeTask(q, k, v, table, preparation.bound(), qNorm, kNorm, preparation.eps());
  }

  private long norm(Vec weights, int dim, String what) {
    return weights == null ? 0 : checks.vec(weights, dim, what).address();
  }

  private AttentionTask task(
      BatchLayout batch,
      Tensor queries,
      CudaKvCache cache,
      int layer,
      AttentionParams params,
      Tensor result) {
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
    return new AttentionTask(q, cache, layer, params, sinks, out);
  }

  private void prepare(DeviceBatch batch, RopeTask task, CudaKvCache cache, int layer) {
    int dim = cache.layout().headDim();
    int kvHeads = cache.layout().kvHeads();
    int heads = task.q().cols() / dim;
    int parts = ropeParts(batch.rows(), heads + 2 * kvHeads, dim);
    stream
        .launch(ropeStore)
        .pointer(task.q().address())
        .int64(task.q().stride())
        .pointer(task.k().address())
        .int64(task.k().stride())
        .pointer(task.v().address())
        .int64(task.v().stride())
        .pointer(batch.positions())
        .pointer(batch.sequence())
        .pointer(batch.tables())
        .int32(batch.tableStride())
        .int32(heads)
        .int32(kvHeads)
        .int32(dim)
        .pointer(task.table().turns())
        .float32(task.table().magnitude())
        .float32(task.bound())
        .pointer(task.qNorm())
        .pointer(task.kNorm())
        .float32(task.eps())
        .pointer(cache.layer(layer))
        .int32(cache.blockSize())
        .int32(batch.rows())
        .int32(parts)
        .grid(Math.ceilDiv(batch.rows() * parts, ROPE_THREADS / WARP))
        .block(ROPE_THREADS)
        .dependent()
        .go();
  }

  private void attention(DeviceBatch onDevice, BatchLayout batch, AttentionTask task) {
    int single = 0;
    int several = 0;
    for (int s = 0; s < batch.sequences(); s++) {
      int rows = batch.rowStart()[s + 1] - batch.rowStart()[s];
      single += rows == 1 ? 1 : 0;
      several += rows > 1 ? 1 : 0;
    }
    if (several > 0) {
      prefill(onDevice, batch, task);
    }
    if (single > 0) {
      decode.plain(onDevice, task);
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

  private void prefill(DeviceBatch onDevice, BatchLayout batch, AttentionTask task) {
    AttentionParams params = task.params();
    int share = params.heads() / params.kvHeads();
    int variant = variant(params.headDim());
    if (hopper != null && variant < hopper.length && params.headDim() % 8 == 0) {
      int[] tiles = PrefillTiles.of(batch, share, HOPPER_ROWS);
      int count = tiles.length / PrefillTiles.INTS;
      long list = stream.upload(tiles, 0, tiles.length, tiles.length);
      boolean narrow = params.window() != 0 && params.window() <= NARROW_WINDOW;
      task.begin(stream, (narrow ? hopperNarrow : hopper)[variant], onDevice)
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
    task.begin(stream, prefill[variant], onDevice)
        .pointer(list)
        .grid(tiles.length / PrefillTiles.INTS, params.kvHeads())
        .block(PREFILL_THREADS)
        .shared(PREFILL_SHARED[variant])
        .dependent()
        .go();
  }
}
