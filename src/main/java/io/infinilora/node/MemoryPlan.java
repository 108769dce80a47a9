package io.infinilora.node;

import io.infinilora.backend.cuda.ScratchSizes;
import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.Role;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
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
  static final int MULTIPLE = 8;

  /** Vectors and matrices begin at multiples of so many bytes. */
  private static final int ALIGNMENT = 256;

  /** Small vectors share pieces of memory of this size. */
  private static final long SLAB_BYTES = 1L << 20;

  /** With less room for tokens than this, a GPU serves nobody: 1024. */
  private static final int LEAST_TOKENS = 1024;

  /**
   * Plans.
   *
   * @param sizes what the device's operators need
   * @param budget bytes that may be used
   * @param bytesPerBlock bytes of keys and values of {@code blockSize} tokens
   * @throws InfiniLoraException BAD_CONFIG with all needs if they exceed the budget
   */
  static MemoryPlan of(
      InfiniLoraConfig config,
      ModelSpec spec,
      ScratchSizes sizes,
      long budget,
      long bytesPerBlock,
      int blockSize) {
    boolean base = config.role() != Role.LORA;
    EngineConfig engine = config.engine();
    long weights = base ? ParameterMemory.bytes(spec, MULTIPLE) + gaps(spec) : 0;
    long adapters = stores(config) * config.lora().deviceMemory().bytes();
    WorkspacePlan steps =
        new WorkspacePlan(
            spec, sizes, engine.maxBatchedTokens(), config.loraMode() == LoraMode.COUPLED);
    long shards = disaggregated(config, steps);
    long least = bytesPerBlock * Math.ceilDiv(least(engine, spec), blockSize);
    long workspace = shards;
    if (base) {
      // What long sequences need is bounded by the room of keys and values, and taken from it.
      long most = budget - weights - adapters - shards - steps.base(0, 0);
      long blocks = engine.kvMemory().map(ByteSize::bytes).orElse(most) / bytesPerBlock;
      int context = engine.contextLength().orElse(spec.maxPositions());
      blocks = Math.clamp(blocks, 1, Math.ceilDiv(context, blockSize));
      int sequences = engine.maxRunning();
      workspace +=
          steps.base(
              steps.attention(blocks, blockSize, sequences), steps.tables(blocks, sequences));
    }
    long left = budget - weights - adapters - workspace;
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
  static MemoryPlan ofLoraServer(
      InfiniLoraConfig config, ModelSpec spec, ScratchSizes sizes, long budget) {
    return of(config, spec, sizes, budget, 0, SchedulerConfig.DEFAULT_BLOCK_SIZE);
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
  private static long disaggregated(InfiniLoraConfig config, WorkspacePlan steps) {
    if (config.loraMode() != LoraMode.DISAGGREGATED) {
      return 0;
    }
    boolean divided = config.lora().shards().expertShards() > 1;
    return switch (config.role()) {
      case BASE -> shards(config) * steps.terms(divided) + steps.payloads() + steps.ends();
      case LORA -> shards(config) * (steps.shard(divided) + steps.payloads());
      default -> shards(config) * steps.shard(divided);
    };
  }

  private static long shards(InfiniLoraConfig config) {
    return config.cluster().shards().map(List::size).orElse(config.lora().shards().shards().size());
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
