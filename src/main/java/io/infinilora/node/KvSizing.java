package io.infinilora.node;

import io.infinilora.backend.Backend;
import io.infinilora.backend.KvLayout;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;

/** Turns a memory budget for keys and values into blocks, and checks that the context fits. */
final class KvSizing {
  private KvSizing() {}

  /** Bytes of one block, in all layers. */
  static long bytesPerBlock(ModelSpec spec, Backend backend) {
    return backend.kvBytes(
        new KvLayout(
            spec.layers(),
            1,
            SchedulerConfig.DEFAULT_BLOCK_SIZE,
            spec.attention().kvHeads(),
            spec.attention().headDim()));
  }

  /**
   * The limits that follow.
   *
   * @param bytes memory for keys and values
   * @param bytesPerBlock see {@link #bytesPerBlock}
   * @throws InfiniLoraException BAD_CONFIG if the context that is asked for does not fit
   */
  static SchedulerConfig schedulerConfig(
      EngineConfig settings, ModelSpec spec, long bytes, long bytesPerBlock) {
    int blockSize = SchedulerConfig.DEFAULT_BLOCK_SIZE;
    long blocks = bytes / bytesPerBlock;
    if (blocks < 1) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "the KV memory of %d bytes does not hold one block of %d bytes"
              .formatted(bytes, bytesPerBlock));
    }
    int kvBlocks = (int) Math.min(blocks, Integer.MAX_VALUE / blockSize);
    int context =
        settings.contextLength().orElse(Math.min(spec.maxPositions(), kvBlocks * blockSize));
    if (context > spec.maxPositions()) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "the context length %d is beyond the model's %d".formatted(context, spec.maxPositions()));
    }
    if (context > (long) kvBlocks * blockSize) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "a context of %d tokens needs %d bytes of KV memory, the budget is %d"
              .formatted(context, (long) Math.ceilDiv(context, blockSize) * bytesPerBlock, bytes));
    }
    return new SchedulerConfig(
        settings.maxRunning(),
        settings.maxWaiting(),
        settings.maxBatchedTokens(),
        settings.prefillChunk(),
        kvBlocks,
        blockSize,
        context,
        settings.prefixCache(),
        settings.policy());
  }
}
