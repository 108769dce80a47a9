package io.infinilora.backend.cuda;

import io.infinilora.backend.AttentionParams;
import io.infinilora.core.ModelSpec;

/**
 * Launches attention of one row per sequence, also together with what is done to its rows before
 * it. The stream's thread only.
 */
final class DecodeAttention {
  /** Heads that share a kv head and a block. */
  private static final int HEADS = 16;

  /**
   * A variant of the kernels.
   *
   * @param shared dynamic shared memory of a block
   * @param blocks of a multiprocessor
   */
  private record Variant(int threads, int shared, int blocks, DecodeSplits.Shape shape) {}

  /** By groups of 64 elements of a head: 1, 2, 4. */
  private static final Variant[] HOPPER = {
    new Variant(256, 128 << 10, 1, new DecodeSplits.Shape(16, 4)),
    new Variant(256, 192 << 10, 1, new DecodeSplits.Shape(8, 8)),
    new Variant(64, 96 << 10, 1, new DecodeSplits.Shape(4, 8))
  };

  /** The same on other devices. */
  private static final Variant[] PORTABLE = {
    new Variant(128, 64 << 10, 2, new DecodeSplits.Shape(8, 4)),
    new Variant(128, 96 << 10, 1, new DecodeSplits.Shape(4, 8)),
    new Variant(64, 96 << 10, 1, new DecodeSplits.Shape(4, 8))
  };

  /** What a fused launch needs a head's dimension to be a multiple of. */
  private static final int FUSED_MULTIPLE = 16;

  private static final int COMBINE_THREADS = 128;

  /** Of a part, beside its row: the largest score, and the sum. */
  private static final int SUMS = 2;

  private final CudaStream stream;
  private final Variant[] variants;
  private final Kernel[] plain = new Kernel[HOPPER.length];

  /** The same, with rotation and storing. */
  private final Kernel[] fused = new Kernel[HOPPER.length];

  private final Kernel combine;

  DecodeAttention(CudaStream stream) {
    this.stream = stream;
    CudaDevice device = stream.device();
    variants = device.hopper() ? HOPPER : PORTABLE;
    for (int i = 0; i < variants.length; i++) {
      int shared = variants[i].shared();
      plain[i] =
          device.kernel("attention_decode", "attention_decode_" + (1 << i)).sharedLimit(shared);
      fused[i] =
          device.kernel("attention_decode", "rope_attention_" + (1 << i)).sharedLimit(shared);
    }
    combine = device.kernel("attention_decode", "attention_combine");
  }

  /** Whether {@link #fused} serves heads of so many elements. */
  static boolean fuses(int headDim) {
    return headDim % FUSED_MULTIPLE == 0;
  }

  private static int variant(int headDim) {
    return headDim <= 64 ? 0 : headDim <= 128 ? 1 : 2;
  }

  /** Attention of the sequences that have one row; the others are left alone. */
  void plain(DeviceBatch batch, AttentionTask task) {
    launch(plain[variant(task.params().headDim())], batch, task, null);
  }

  /**
   * {@link #plain} of rows whose q, k and v come straight from their projection; these are not
   * changed.
   */
  void fused(DeviceBatch batch, AttentionTask task, RopeTask rope) {
    launch(fused[variant(task.params().headDim())], batch, task, rope);
  }

  /** Blocks of a sequence, if its keys are not cut. */
  private static int blocks(int heads, int kvHeads) {
    return kvHeads * Math.ceilDiv(heads / kvHeads, HEADS);
  }

  private static DecodeSplits splits(
      Variant variant, int multiprocessors, int positions, int window, long blocks) {
    return DecodeSplits.of(
        variant.shape(),
        DecodeSplits.tiles(positions, window),
        blocks,
        (long) variant.blocks() * multiprocessors);
  }

  /** Whether splits need no memory to become one result. */
  private static boolean together(DecodeSplits splits, boolean hopper) {
    return splits.most() == 1 || (splits.together() && hopper);
  }

  /** Bytes of the results of splits that are no cluster. */
  static long partialBytes(
      ScratchSizes device,
      ModelSpec.Attention attention,
      int window,
      int positions,
      int sequences) {
    int heads = attention.heads();
    DecodeSplits splits =
        splits(
            (device.hopper() ? HOPPER : PORTABLE)[variant(attention.headDim())],
            device.multiprocessors(),
            positions,
            window,
            (long) sequences * blocks(heads, attention.kvHeads()));
    long parts = together(splits, device.hopper()) ? 0 : (long) sequences * heads * splits.most();
    return parts * (CudaTensor.padded(attention.headDim()) + SUMS) * Float.BYTES;
  }

  private void launch(Kernel kernel, DeviceBatch batch, AttentionTask task, RopeTask rope) {
    AttentionParams params = task.params();
    Variant variant = variants[variant(params.headDim())];
    int sequences = batch.sequences();
    int blocks = blocks(params.heads(), params.kvHeads());
    DecodeSplits splits =
        splits(
            variant,
            stream.device().multiprocessors(),
            batch.tableStride() * task.cache().blockSize(),
            params.window(),
            (long) sequences * blocks);
    boolean together = together(splits, stream.device().hopper());
    long parts = together ? 0 : (long) sequences * params.heads() * splits.most();
    long partialBytes = parts * CudaTensor.padded(params.headDim()) * Float.BYTES;
    long partials = together ? 0 : stream.scratch(partialBytes + parts * SUMS * Float.BYTES);
    Launch launch =
        task.begin(stream, kernel, batch)
            .pointer(batch.rowStart())
            .int32(splits.part())
            .pointer(partials)
            .pointer(partials + partialBytes);
    if (rope != null) {
      rope.addTo(launch);
    }
    launch
        .grid(splits.most(), blocks, sequences)
        .cluster(together ? splits.most() : 1)
        .block(variant.threads())
        .shared(variant.shared())
        .dependent()
        .go();
    if (splits.most() > 1 && !together) {
      combine(batch, task, splits, partials, partials + partialBytes);
    }
  }

  private void combine(
      DeviceBatch batch, AttentionTask task, DecodeSplits splits, long partials, long sums) {
    stream
        .launch(combine)
        .pointer(partials)
        .pointer(sums)
        .int32(splits.most())
        .int32(task.params().headDim())
        .int32(splits.part())
        .int32(task.params().window())
        .pointer(batch.positions())
        .pointer(batch.rowStart())
        .pointer(task.sinks())
        .pointer(task.out().address())
        .int64(task.out().stride())
        .grid(task.params().heads(), batch.sequences())
        .block(COMBINE_THREADS)
        .dependent()
        .go();
  }
}
