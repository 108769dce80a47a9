package io.infinilora.node;

import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.Role;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.weights.ParameterMemory;
import java.util.List;

/**
 * What a node puts into a GPU's memory, in bytes; made before anything is loaded.
 *
 * @param budget what may be used
 * @param weights the model's parameters; 0 in a process without a base model
 * @param adapters memory set aside for adapters
 * @param workspace activations, exchanges, and what kernels need for intermediate results; an upper
 *     bound
 * @param keysAndValues the KV cache; 0 in a process without a base model
 */
record MemoryPlan(long budget, long weights, long adapters, long workspace, long keysAndValues) {

  /** The device's rows and matrices begin at multiples of this many elements. */
  private static final int MULTIPLE = 8;

  /** Vectors and matrices begin at multiples of so many bytes. */
  private static final int ALIGNMENT = 256;

  /** Small vectors share pieces of memory of this size. */
  private static final long SLAB_BYTES = 1L << 20;

  /** Most rows whose logits are computed at once; see {@code BaseModel}. */
  private static final int LOGIT_ROWS = 64;

  /** Staging of one stream, and its matrix library. */
  private static final long STREAM_BYTES = (3 * 4L + 32) << 20;

  /** For the arrays of recorded steps. */
  private static final long RECORDER_BYTES = 8L << 20;

  /** What tensors take beyond their elements, a few bytes each, and there are a few dozen. */
  private static final long ENDS = 64L << 10;

  /** Of each of a stream's two pieces of memory for intermediate results. */
  private static final long LEAST_SCRATCH = 16L << 20;

  /** Staging grows to four times the largest payload, and what it had before is kept. */
  private static final int STAGES = 8;

  /** Adapters of higher ranks may need more than is planned. */
  private static final int RANK = 64;

  /** Columns whose products with adapters are summed up apart, where blocks cannot share them. */
  private static final int CHUNK = 512;

  /** With less room for tokens than this, a GPU serves nobody: 1024. */
  private static final int LEAST_TOKENS = 1024;

  /**
   * Plans.
   *
   * @param budget bytes that may be used
   * @param bytesPerBlock bytes of keys and values of {@code blockSize} tokens
   * @throws InfiniLoraException BAD_CONFIG with all needs if they exceed the budget
   */
  static MemoryPlan of(
      InfiniLoraConfig config, ModelSpec spec, long budget, long bytesPerBlock, int blockSize) {
    boolean base = config.role() != Role.LORA;
    EngineConfig engine = config.engine();
    long weights = base ? ParameterMemory.bytes(spec, MULTIPLE) + gaps(spec) : 0;
    long adapters = stores(config) * config.lora().deviceMemory().bytes();
    long rows = engine.maxBatchedTokens();
    long workspace =
        (base ? activations(spec, rows) + baseStream(spec, rows) + RECORDER_BYTES + ENDS : 0)
            + disaggregated(config, spec, rows);
    long left = budget - weights - adapters - workspace;
    long least = bytesPerBlock * Math.ceilDiv(least(engine, spec), blockSize);
    long keysAndValues =
        base ? engine.kvMemory().map(ByteSize::bytes).orElse(Math.max(left, least)) : 0;
    MemoryPlan plan = new MemoryPlan(budget, weights, adapters, workspace, keysAndValues);
    if (plan.needed() > budget) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "the GPU memory that may be used, %s, is too little:%n%s"
              .formatted(gib(budget), plan.table(engine.kvMemory().isEmpty())));
    }
    return plan;
  }

  /** Plans a process without a base model; likewise. */
  static MemoryPlan ofLoraServer(InfiniLoraConfig config, ModelSpec spec, long budget) {
    return of(config, spec, budget, 0, SchedulerConfig.DEFAULT_BLOCK_SIZE);
  }

  /**
   * What is between vectors, and stays empty of the pieces of memory that small ones share, a
   * quarter, and the last; what is between matrices; and what the rotation's angles take.
   */
  private static long gaps(ModelSpec spec) {
    return ParameterMemory.vectorBytes(spec, MULTIPLE, ALIGNMENT) * 4 / 3
        - ParameterMemory.vectorBytes(spec, MULTIPLE, 1)
        + SLAB_BYTES
        + (long) Double.BYTES * spec.attention().headDim() / 2
        + ParameterMemory.matrixBytes(spec, MULTIPLE, ALIGNMENT)
        - ParameterMemory.matrixBytes(spec, MULTIPLE, 1);
  }

  private static int least(EngineConfig engine, ModelSpec spec) {
    return engine.contextLength().orElse(Math.min(LEAST_TOKENS, spec.maxPositions()));
  }

  /** Stores of adapters on this device. */
  private static long stores(InfiniLoraConfig config) {
    return switch (config.loraMode()) {
      case NONE -> 0;
      case COUPLED -> 1;
      case DISAGGREGATED -> config.role() == Role.BASE ? 0 : shards(config);
    };
  }

  /** Shards, what lies between them and the base model, and payloads from other processes. */
  private static long disaggregated(InfiniLoraConfig config, ModelSpec spec, long rows) {
    if (config.loraMode() != LoraMode.DISAGGREGATED) {
      return 0;
    }
    long terms =
        config.lora().shards().expertShards() > 1 && spec.mlp().moe() != null
            ? Short.BYTES * rows * chosen(spec) * padded(spec.hidden())
            : 0;
    long shard = exchange(spec, rows) + terms + loraStream(spec, rows) + ENDS;
    return switch (config.role()) {
      case BASE -> shards(config) * terms + payloads(spec, rows) + ENDS;
      case LORA -> shards(config) * (shard + payloads(spec, rows));
      default -> shards(config) * shard;
    };
  }

  /** Staging of rows that come from another process. */
  private static long payloads(ModelSpec spec, long rows) {
    long widest = chosen(spec) * padded(spec.hidden());
    for (LoraSite site : LoraSite.all()) {
      widest = Math.max(widest, spec.inRows(site) * padded(spec.inWidth(site)));
    }
    return STAGES * Short.BYTES * rows * widest;
  }

  private static long shards(InfiniLoraConfig config) {
    return config.cluster().shards().map(List::size).orElse(config.lora().shards().shards().size());
  }

  /** See {@code Workspace}. */
  private static long activations(ModelSpec spec, long rows) {
    ModelSpec.Attention attention = spec.attention();
    ModelSpec.Moe moe = spec.mlp().moe();
    long perRow =
        8L * padded(spec.hidden())
            + 4L * padded(attention.qWidth())
            + 4L * padded(attention.kvWidth())
            + 4L * spec.inRows(LoraSite.MLP_OUT) * padded(spec.mlp().intermediate())
            + (moe == null ? 0 : 4L * padded(moe.experts()) + 32L * moe.topK());
    long perLogitRow = 6L * padded(spec.hidden()) + 4L * padded(spec.vocab());
    return rows * perRow + Math.min(rows, LOGIT_ROWS) * perLogitRow;
  }

  private static long baseStream(ModelSpec spec, long rows) {
    return STREAM_BYTES + grown(scratch(spec, rows)) + grown(sorted(spec, rows));
  }

  private static long loraStream(ModelSpec spec, long rows) {
    return STREAM_BYTES + grown(adapterScratch(spec, rows)) + LEAST_SCRATCH;
  }

  /** Memory for intermediate results grows to what is needed, in steps of a quarter at most. */
  private static long grown(long bytes) {
    long step = Math.max(1, Long.highestOneBit(bytes) / 4);
    return Math.max(LEAST_SCRATCH, Math.ceilDiv(bytes, step) * step);
  }

  /**
   * The largest intermediate result of an operator: what experts put out, before it is summed up,
   * in float32 (on Hopper half of it, of many rows); logits that are sorted, if blocks cannot share
   * them; or products of adapters.
   */
  private static long scratch(ModelSpec spec, long rows) {
    long terms =
        spec.mlp().moe() == null ? 0 : Float.BYTES * rows * chosen(spec) * padded(spec.hidden());
    long logits = Float.BYTES * Math.min(rows, LOGIT_ROWS) * padded(spec.vocab());
    return Math.max(Math.max(terms, logits), adapterScratch(spec, rows));
  }

  /** Rows in the order of their experts, beside {@link #scratch}. */
  private static long sorted(ModelSpec spec, long rows) {
    return spec.mlp().moe() == null
        ? 0
        : Short.BYTES
            * rows
            * chosen(spec)
            * Math.max(padded(spec.hidden()), padded(spec.mlp().intermediate()));
  }

  /** Products of rows and the narrow matrix of an adapter, and of experts' adapters their terms. */
  private static long adapterScratch(ModelSpec spec, long rows) {
    long most = 0;
    for (LoraSite site : LoraSite.all()) {
      long sums = Math.ceilDiv(spec.inWidth(site), CHUNK);
      long products = Float.BYTES * sums * RANK * site.targets().size();
      long terms = spec.routed(site) ? Short.BYTES * padded(spec.hidden()) : 0;
      long perRow = products + terms;
      most = Math.max(most, rows * (spec.routed(site) ? chosen(spec) : 1) * perRow);
    }
    return most;
  }

  private static long chosen(ModelSpec spec) {
    return spec.inRows(LoraSite.MLP_OUT);
  }

  /** See {@code LoraExchange}. */
  private static long exchange(ModelSpec spec, long rows) {
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
    return Math.ceilDiv(cols, MULTIPLE) * (long) MULTIPLE;
  }

  private long needed() {
    return weights + adapters + workspace + keysAndValues;
  }

  /** One line for the start-up log. */
  String describe() {
    return "device memory: %s may be used: weights %s, adapters %s, workspace up to %s, keys and values %s"
        .formatted(gib(budget), gib(weights), gib(adapters), gib(workspace), gib(keysAndValues));
  }

  private String table(boolean least) {
    return """
          weights           %10s
          adapters          %10s  (lora.deviceMemory, of each shard)
          workspace         %10s  (grows with engine.maxBatchedTokens)
          keys and values   %10s  (%s)
          together          %10s
        Use a smaller model or smaller settings, a larger GPU, or a larger device.memory if others \
        need none of the GPU."""
        .formatted(
            gib(weights),
            gib(adapters),
            gib(workspace),
            gib(keysAndValues),
            least ? "the least that makes sense; engine.contextLength" : "engine.kvMemory",
            gib(needed()));
  }

  private static String gib(long bytes) {
    return "%.2f GiB".formatted(bytes / 0x1p30);
  }
}
