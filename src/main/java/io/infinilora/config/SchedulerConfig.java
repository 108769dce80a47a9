package io.infinilora.config;

import java.util.Objects;

/**
 * Limits of one base model's scheduler.
 *
 * @param maxRunning most sequences that hold KV blocks at once
 * @param maxWaiting most requests that wait for admission; a further one is refused. Those whose
 *     adapter is not ready are counted apart, and every adapter may have one waiting
 * @param maxBatchedTokens most rows of a step; at least {@code maxRunning}, so that every running
 *     sequence can decode in every step
 * @param prefillChunk most prompt tokens of one sequence in one step
 * @param kvBlocks KV blocks of the whole cache
 * @param blockSize positions per KV block
 * @param contextLength longest prompt plus output
 * @param prefixCache whether full KV blocks are kept and shared between equal prefixes
 * @param policy who is served first
 */
public record SchedulerConfig(
    int maxRunning,
    int maxWaiting,
    int maxBatchedTokens,
    int prefillChunk,
    int kvBlocks,
    int blockSize,
    int contextLength,
    boolean prefixCache,
    Policy policy) {

  /** Positions per KV block: 16. */
  public static final int DEFAULT_BLOCK_SIZE = 16;

  /** Rejects sizes below 1 and a token budget below {@code maxRunning}. */
  public SchedulerConfig {
    Check.atLeast("maxRunning", 1, maxRunning);
    Check.atLeast("maxWaiting", 1, maxWaiting);
    Check.atLeast("prefillChunk", 1, prefillChunk);
    Check.atLeast("kvBlocks", 1, kvBlocks);
    Check.atLeast("blockSize", 1, blockSize);
    Check.atLeast("contextLength", 1, contextLength);
    Check.tokenBudget("maxBatchedTokens", maxBatchedTokens, "maxRunning", maxRunning);
    Objects.requireNonNull(policy);
  }

  /** The default policy. */
  public SchedulerConfig(
      int maxRunning,
      int maxWaiting,
      int maxBatchedTokens,
      int prefillChunk,
      int kvBlocks,
      int blockSize,
      int contextLength,
      boolean prefixCache) {
    this(
        maxRunning,
        maxWaiting,
        maxBatchedTokens,
        prefillChunk,
        kvBlocks,
        blockSize,
        contextLength,
        prefixCache,
        EngineConfig.DEFAULT_POLICY);
  }
}
