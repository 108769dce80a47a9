package io.infinilora.config;

import java.time.Duration;
import java.util.Optional;

/**
 * One base model and its LoRA server.
 *
 * @param threads CPU threads of the base model's steps; empty for one per processor
 * @param loraThreads CPU threads of the LoRA server; empty for one per processor
 * @param contextLength longest prompt plus output; empty for the model's own limit, cut to what the
 *     KV cache holds
 * @param kvMemory memory for keys and values; empty for {@link #DEFAULT_KV_MEMORY} on the CPU, and
 *     for what the other needs leave of a GPU's memory
 * @param maxRunning most sequences computed at once
 * @param maxWaiting most requests in the queue; a further one is refused, unless it would be the
 *     only one of its adapter
 * @param maxBatchedTokens most rows of a step; at least {@code maxRunning}, at most {@link
 *     #MOST_BATCHED_TOKENS}
 * @param prefillChunk most prompt tokens of one sequence in one step
 * @param prefixCache whether equal prefixes share keys and values
 * @param policy who is served first
 * @param stepDeadline how long a step may wait for its LoRA side before it is given up
 */
public record EngineConfig(
    Optional<Integer> threads,
    Optional<Integer> loraThreads,
    Optional<Integer> contextLength,
    Optional<ByteSize> kvMemory,
    int maxRunning,
    int maxWaiting,
    int maxBatchedTokens,
    int prefillChunk,
    boolean prefixCache,
    Policy policy,
    Duration stepDeadline) {

  /** 512 MiB, of the machine's memory. */
  public static final ByteSize DEFAULT_KV_MEMORY = ByteSize.mebibytes(512);

  /** 32 sequences. */
  public static final int DEFAULT_MAX_RUNNING = 32;

  /** 256 requests. */
  public static final int DEFAULT_MAX_WAITING = 256;

  /** 512 rows. */
  public static final int DEFAULT_MAX_BATCHED_TOKENS = 512;

  /**
   * Most rows of a step on any device: where a kernel has a block of its grid for each row, CUDA
   * has no more of them.
   */
  public static final int MOST_BATCHED_TOKENS = 65_535;

  /** 256 tokens. */
  public static final int DEFAULT_PREFILL_CHUNK = 256;

  /**
   * Adapter-fair: one tenant's burst does not keep the others waiting, nothing is left idle for it,
   * and with one tenant it is first come, first served.
   */
  public static final Policy DEFAULT_POLICY = Policy.ADAPTER_FAIR;

  /** 30 s. */
  public static final Duration DEFAULT_STEP_DEADLINE = Duration.ofSeconds(30);

  /** All defaults. */
  public static final EngineConfig DEFAULTS =
      new EngineConfig(
          Optional.empty(),
          Optional.empty(),
          Optional.empty(),
          Optional.empty(),
          DEFAULT_MAX_RUNNING,
          DEFAULT_MAX_WAITING,
          DEFAULT_MAX_BATCHED_TOKENS,
          DEFAULT_PREFILL_CHUNK,
          true,
          DEFAULT_POLICY,
          DEFAULT_STEP_DEADLINE);

  /** Rejects impossible values, naming the key. */
  public EngineConfig {
    threads.ifPresent(value -> Check.atLeast("engine.threads", 1, value));
    loraThreads.ifPresent(value -> Check.atLeast("engine.loraThreads", 1, value));
    // A prompt of one token and one token of output.
    contextLength.ifPresent(value -> Check.atLeast("engine.contextLength", 2, value));
    kvMemory.ifPresent(value -> Check.positive("engine.kvMemory", value));
    Check.atLeast("engine.maxRunning", 1, maxRunning);
    Check.atLeast("engine.maxWaiting", 1, maxWaiting);
    Check.atMost("engine.maxBatchedTokens", MOST_BATCHED_TOKENS, maxBatchedTokens);
    Check.tokenBudget("engine.maxBatchedTokens", maxBatchedTokens, "engine.maxRunning", maxRunning);
    Check.atLeast("engine.prefillChunk", 1, prefillChunk);
    if (stepDeadline.isZero()) {
      throw Check.error("engine.stepDeadline must be greater than 0");
    }
  }

  /** Settings that say how much memory keys and values get. */
  public EngineConfig(
      Optional<Integer> threads,
      Optional<Integer> loraThreads,
      Optional<Integer> contextLength,
      ByteSize kvMemory,
      int maxRunning,
      int maxWaiting,
      int maxBatchedTokens,
      int prefillChunk,
      boolean prefixCache,
      Policy policy,
      Duration stepDeadline) {
    this(
        threads,
        loraThreads,
        contextLength,
        Optional.of(kvMemory),
        maxRunning,
        maxWaiting,
        maxBatchedTokens,
        prefillChunk,
        prefixCache,
        policy,
        stepDeadline);
  }

  /** {@link #threads}, or one per processor of this machine. */
  public int threadsOrAll() {
    return threads.orElseGet(Runtime.getRuntime()::availableProcessors);
  }

  /** {@link #loraThreads}, or one per processor of this machine. */
  public int loraThreadsOrAll() {
    return loraThreads.orElseGet(Runtime.getRuntime()::availableProcessors);
  }
}
