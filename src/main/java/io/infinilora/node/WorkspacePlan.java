package io.infinilora.node;

import io.infinilora.backend.cuda.ScratchSizes;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;

/**
 * What steps of one model take of a GPU's memory besides weights, adapters, keys and values, in
 * bytes: upper bounds.
 *
 * @param sizes what the device's operators need
 * @param rows most rows of a step
 * @param coupled whether the base model's stream computes adapters
 */
record WorkspacePlan(ModelSpec spec, ScratchSizes sizes, long rows, boolean coupled) {

  /** Most rows whose logits are computed at once; see {@code BaseModel}. */
  private static final int LOGIT_ROWS = 64;

  /** What a ring of staging takes at first. */
  private static final long RING_BYTES = 4L << 20;

  /** Whatever is larger makes the ring grow. */
  private static final long RING_HALF = RING_BYTES / 2;

  /** Of a row in a step's layout, at most. */
  private static final int ROW_NUMBERS = 6;

  /** Staging of one stream, and its matrix library. */
  private static final long STREAM_BYTES = 3 * RING_BYTES + (32L << 20);

  /** For the arrays of recorded steps. */
  private static final long RECORDER_BYTES = 8L << 20;

  /** What tensors take beyond their elements, a few bytes each, and there are a few dozen. */
  private static final long ENDS = 64L << 10;

  /** Staging grows to four times the largest array, and what it had before is kept. */
  private static final int STAGES = 8;

  /** Adapters of higher ranks may need more than is planned. */
  private static final int RANK = 64;

  /**
   * The base model's activations and stream.
   *
   * @param attention see {@link #attention}
   * @param tables see {@link #tables}
   */
  long base(long attention, long tables) {
    return tables
        + activations()
        + STREAM_BYTES
        + RECORDER_BYTES
        + ENDS
        + ScratchSizes.allocated(Math.max(attention, scratch()))
        + ScratchSizes.allocated(sorted());
  }

  /** What attention puts down of long rows that several blocks share. */
  long attention(long blocks, int blockSize, int mostSequences) {
    return sizes.decodeAttention(spec.attention(), blocks, blockSize, mostSequences);
  }

  /**
   * What a step's layout takes with the tables of long sequences' KV blocks; with those of short
   * ones it is in {@link #STREAM_BYTES}.
   */
  long tables(long blocks, int mostSequences) {
    long bytes = Integer.BYTES * (blocks * mostSequences + ROW_NUMBERS * rows);
    return bytes > RING_HALF ? STAGES * bytes : 0;
  }

  /** A shard's stream, and what lies between it and the base model. */
  long shard(boolean divided) {
    return exchange()
        + terms(divided)
        + STREAM_BYTES
        + ScratchSizes.allocated(adapterScratch())
        + ScratchSizes.allocated(0)
        + ENDS;
  }

  /** Rows per chosen expert that a base model gets of one shard of a divided server. */
  long terms(boolean divided) {
    return divided && spec.mlp().moe() != null
        ? Short.BYTES * rows * chosen() * padded(spec.hidden())
        : 0;
  }

  /** Staging of rows that come from another process. */
  long payloads() {
    long widest = chosen() * padded(spec.hidden());
    for (LoraSite site : LoraSite.all()) {
      widest = Math.max(widest, spec.inRows(site) * padded(spec.inWidth(site)));
    }
    return STAGES * Short.BYTES * rows * widest;
  }

  /** What tensors take beyond their elements. */
  long ends() {
    return ENDS;
  }

  /** See {@code Workspace}. */
  private long activations() {
    ModelSpec.Attention attention = spec.attention();
    ModelSpec.Moe moe = spec.mlp().moe();
    long perRow =
        8L * padded(spec.hidden())
            + 4L * padded(attention.qWidth())
            + 4L * padded(attention.kvWidth())
            + 4L * chosen() * padded(spec.mlp().intermediate())
            + (moe == null ? 0 : 4L * padded(moe.experts()) + 32L * moe.topK());
    long perLogitRow = 6L * padded(spec.hidden()) + 4L * padded(spec.vocab());
    return rows * perRow + Math.min(rows, LOGIT_ROWS) * perLogitRow;
  }

  /** The largest intermediate result of an operator other than attention. */
  private long scratch() {
    ModelSpec.Moe moe = spec.mlp().moe();
    long terms = moe == null ? 0 : sizes.expertTerms(moe, rows, padded(spec.hidden()));
    long logits = sizes.sortedLogits(spec.vocab(), Math.min(rows, LOGIT_ROWS));
    return Math.max(Math.max(terms, logits), coupled ? adapterScratch() : 0);
  }

  /** Rows in the order of their experts, beside {@link #scratch}. */
  private long sorted() {
    ModelSpec.Moe moe = spec.mlp().moe();
    long width = Math.max(padded(spec.hidden()), padded(spec.mlp().intermediate()));
    return moe == null ? 0 : sizes.sortedRows(moe, rows, width);
  }

  /** Products of rows and the narrow matrices of adapters, and of experts' adapters their terms. */
  private long adapterScratch() {
    long most = 0;
    for (LoraSite site : LoraSite.all()) {
      int in = spec.inWidth(site);
      int ranks = RANK * site.targets().size();
      long features = site == LoraSite.MLP_OUT ? padded(spec.hidden()) : 0;
      most =
          Math.max(
              most,
              spec.routed(site)
                  ? sizes.routedLoraProducts(in, ranks, rows * chosen(), features)
                  : sizes.loraProducts(in, ranks, rows));
    }
    return most;
  }

  private long chosen() {
    return spec.inRows(LoraSite.MLP_OUT);
  }

  /** See {@code LoraExchange}. */
  private long exchange() {
    long elements = 0;
    for (LoraSite site : LoraSite.all()) {
      elements += spec.inRows(site) * padded(spec.inWidth(site));
      for (LoraTarget target : site.targets()) {
        elements += spec.outRows(target) * padded(spec.outWidth(target));
      }
    }
    return Short.BYTES * rows * elements;
  }

  private static long padded(int cols) {
    return Math.ceilDiv(cols, MemoryPlan.MULTIPLE) * (long) MemoryPlan.MULTIPLE;
  }
}
