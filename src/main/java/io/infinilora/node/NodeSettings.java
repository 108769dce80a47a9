package io.infinilora.node;

import io.infinilora.core.LoraMode;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;

/**
 * What a node serves and with how much.
 *
 * @param model model file or directory
 * @param adapters directory of adapters, one per subdirectory; empty for none
 * @param loraMode where low-rank products are computed
 * @param threads CPU threads of the base model's steps
 * @param loraThreads CPU threads of the LoRA server
 * @param contextLength longest prompt plus output; empty for the model's own limit, cut to what the
 *     KV cache holds
 * @param kvBytes memory for keys and values
 * @param maxRunning most sequences at once
 * @param maxWaiting most requests in the queue
 * @param maxBatchedTokens most rows of a step
 * @param prefillChunk most prompt tokens of one sequence in one step
 * @param prefixCache whether equal prefixes share keys and values
 * @param stepDeadline how long a step may take before its LoRA side is given up
 */
public record NodeSettings(
    Path model,
    Optional<Path> adapters,
    LoraMode loraMode,
    int threads,
    int loraThreads,
    Optional<Integer> contextLength,
    long kvBytes,
    int maxRunning,
    int maxWaiting,
    int maxBatchedTokens,
    int prefillChunk,
    boolean prefixCache,
    Duration stepDeadline) {

  /** Rejects nulls. */
  public NodeSettings {
    Objects.requireNonNull(model);
    Objects.requireNonNull(adapters);
    Objects.requireNonNull(loraMode);
    Objects.requireNonNull(contextLength);
    Objects.requireNonNull(stepDeadline);
  }
}
