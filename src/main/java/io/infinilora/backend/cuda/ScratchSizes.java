package io.infinilora.backend.cuda;

import io.infinilora.core.ModelSpec;

/**
 * What operators need for intermediate results beside their tensors, in bytes, by the kernels that
 * a device has: for a plan of its memory. Immutable.
 *
 * @param hopper whether the device runs the kernels for Hopper
 * @param multiprocessors streaming multiprocessors
 */
public record ScratchSizes(boolean hopper, int multiprocessors) {
  /** Lists and tiles of routed LoRA products, at most, per routed row. */
  private static final int ROUTED_LISTS = 64;

  /** Bytes that a stream sets aside if an operator needs so many. */
  public static long allocated(long bytes) {
    return CudaStream.grown(bytes);
  }

  /**
   * The partial results of decode attention that is shared by blocks.
   *
   * @param blocks KV blocks of the longest sequence
   * @param mostSequences most sequences of a step
   */
  public long decodeAttention(
      ModelSpec.Attention attention, long blocks, int blockSize, int mostSequences) {
    int stride = StepBucket.of(1, Math.toIntExact(blocks)).tableStride();
    int padded =
        mostSequences > StepBucket.MAX_ROWS
            ? mostSequences
            : StepBucket.of(mostSequences, 1).rows();
    long positions = Math.min(Integer.MAX_VALUE, (long) stride * blockSize);
    long most = 0;
    for (int window : attention.windows().stream().distinct().toList()) {
      for (int sequences = 1; sequences <= padded; sequences++) {
        most =
            Math.max(
                most,
                DecodeAttention.partialBytes(this, attention, window, (int) positions, sequences));
      }
    }
    return most;
  }

  /** What the experts of a step's rows put out, before it is summed up by row. */
  public long expertTerms(ModelSpec.Moe moe, long rows, long features) {
    long few = hopper ? Math.min(rows, fewRows(moe)) : rows;
    long halves = few < rows ? Short.BYTES * rows : 0;
    return Math.max(Float.BYTES * few, halves) * moe.topK() * features;
  }

  /** Rows in the order of their experts, beside other results. */
  public long sortedRows(ModelSpec.Moe moe, long rows, long width) {
    return hopper && rows > fewRows(moe) ? Short.BYTES * rows * moe.topK() * width : 0;
  }

  /** Most rows whose products wait for weights and not for arithmetic. */
  private static long fewRows(ModelSpec.Moe moe) {
    return ExpertOps.fewRouted(moe.experts()) / moe.topK();
  }

  /** Logits that are sorted where they do not fit into the memory of blocks. */
  public long sortedLogits(int vocab, long rows) {
    return SamplingOps.fits(hopper, vocab) ? 0 : Float.BYTES * rows * SamplingOps.rounded(vocab);
  }

  /**
   * Products of rows and the narrow matrices of adapters.
   *
   * @param in width of the rows
   * @param ranks of all targets together
   */
  public long loraProducts(int in, int ranks, long rows) {
    return Float.BYTES * rows * ranks * LoraTiling.Clusters.of(in, hopper).splits();
  }

  /**
   * The same of experts' adapters, and what the device makes of the routing.
   *
   * @param features of terms that are summed up by row; 0 for none
   */
  public long routedLoraProducts(int in, int ranks, long routedRows, long features) {
    return loraProducts(in, ranks, routedRows)
        + routedRows * (ROUTED_LISTS + Short.BYTES * features);
  }
}
