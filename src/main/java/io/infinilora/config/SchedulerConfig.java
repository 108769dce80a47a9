package io.infinilora.config;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;

/**
 * Limits of one base model's scheduler.
 *
 * @param maxRunning most sequences that hold KV blocks at once
 * @param maxWaiting most requests that wait for admission; a further one is refused
 * @param maxBatchedTokens most rows of a step; at least {@code maxRunning}, so that every running
 *     sequence can decode in every step
 * @param prefillChunk most prompt tokens of one sequence in one step
 * @param kvBlocks KV blocks of the whole cache
 * @param blockSize positions per KV block
 * @param contextLength longest prompt plus output
 * @param prefixCache whether full KV blocks are kept and shared between equal prefixes
 */
public record SchedulerConfig(
    int maxRunning,
    int maxWaiting,
    int maxBatchedTokens,
    int prefillChunk,
    int kvBlocks,
    int blockSize,
    int contextLength,
    boolean prefixCache) {

  /** Positions per KV block: 16. */
  public static final int DEFAULT_BLOCK_SIZE = 16;

  /** Rejects sizes below 1 and a token budget below {@code maxRunning}. */
  public SchedulerConfig {
    atLeastOne("maxRunning", maxRunning);
    atLeastOne("maxWaiting", maxWaiting);
    atLeastOne("prefillChunk", prefillChunk);
    atLeastOne("kvBlocks", kvBlocks);
    atLeastOne("blockSize", blockSize);
    atLeastOne("contextLength", contextLength);
    if (maxBatchedTokens < maxRunning) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG,
          "maxBatchedTokens must be at least maxRunning (%d), so that every running sequence can decode in every step, not %d"
              .formatted(maxRunning, maxBatchedTokens));
    }
  }

  private static void atLeastOne(String name, int value) {
    if (value < 1) {
      throw new InfiniLoraException(
          ErrorCode.BAD_CONFIG, "%s must be at least 1, not %d".formatted(name, value));
    }
  }
}
