package io.infinilora.node;

import io.infinilora.config.EngineConfig;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;

/** Turns a memory budget for keys and values into blocks, and checks that the context fits. */
final class KvSizing {
  private static final int BYTES_PER_ELEMENT = Float.BYTES;

  private KvSizing() {}

  /** Bytes of the keys and values of one token. */
  static long bytesPerToken(ModelSpec spec) {
    return 2L * spec.layers() * spec.attention().kvWidth() * BYTES_PER_ELEMENT;
  }

  static SchedulerConfig schedulerConfig(EngineConfig settings, ModelSpec spec) {
    int blockSize = SchedulerConfig.DEFAULT_BLOCK_SIZE;
    long bytesPerBlock = bytesPerToken(spec) * blockSize;
    long blocks = settings.kvMemory().bytes() / bytesPerBlock;
    if (blocks < 1) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "the KV memory of %d bytes does not hold one block of %d bytes"
              .formatted(settings.kvMemory().bytes(), bytesPerBlock));
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
              .formatted(
                  context,
                  (long) Math.ceilDiv(context, blockSize) * bytesPerBlock,
                  settings.kvMemory().bytes()));
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
