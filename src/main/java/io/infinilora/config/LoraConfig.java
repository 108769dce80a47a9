package io.infinilora.config;

import io.infinilora.core.LoraGrid;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * Memory for adapters, how the LoRA server is divided, and what may change while it serves.
 *
 * @param deviceMemory memory of each shard from which adapters are computed
 * @param hostMemory memory of each shard for adapters that are packed but not on the device; 0 for
 *     none
 * @param eviction who leaves device memory first
 * @param shards how the LoRA server is divided; whole in mode coupled
 * @param adapterWait how long a request may wait for its adapter to get into device memory
 * @param retryFor how long a request is tried again after the LoRA server failed it; 0 for not at
 *     all
 * @param roots directories below which adapters may be loaded while serving; empty for the
 *     directory of adapters, if there is one
 * @param allowHub whether adapters may be loaded from the hub while serving
 * @param watch how often the directory of adapters is looked at for changes; empty for never
 */
public record LoraConfig(
    ByteSize deviceMemory,
    ByteSize hostMemory,
    Eviction eviction,
    LoraGrid shards,
    Duration adapterWait,
    Duration retryFor,
    Optional<List<Path>> roots,
    boolean allowHub,
    Optional<Duration> watch) {

  /** 1 GiB. */
  public static final ByteSize DEFAULT_DEVICE_MEMORY = ByteSize.mebibytes(1024);

  /** 1 GiB. */
  public static final ByteSize DEFAULT_HOST_MEMORY = ByteSize.mebibytes(1024);

  /** 30 s. */
  public static final Duration DEFAULT_ADAPTER_WAIT = Duration.ofSeconds(30);

  /** 30 s. */
  public static final Duration DEFAULT_RETRY_FOR = Duration.ofSeconds(30);

  /** All defaults. */
  public static final LoraConfig DEFAULTS =
      new LoraConfig(
          DEFAULT_DEVICE_MEMORY,
          DEFAULT_HOST_MEMORY,
          Eviction.LRU,
          LoraGrid.SINGLE,
          DEFAULT_ADAPTER_WAIT,
          DEFAULT_RETRY_FOR);

  /** Settings without those of changes while serving. */
  public LoraConfig(
      ByteSize deviceMemory,
      ByteSize hostMemory,
      Eviction eviction,
      LoraGrid shards,
      Duration adapterWait,
      Duration retryFor) {
    this(
        deviceMemory,
        hostMemory,
        eviction,
        shards,
        adapterWait,
        retryFor,
        Optional.empty(),
        false,
        Optional.empty());
  }

  /** Rejects impossible values, naming the key. */
  public LoraConfig {
    Check.positive("lora.deviceMemory", deviceMemory);
    Objects.requireNonNull(hostMemory);
    Objects.requireNonNull(eviction);
    Objects.requireNonNull(shards);
    roots = roots.map(List::copyOf);
    if (watch.isPresent() && watch.get().isZero()) {
      throw Check.error("lora.watch must be greater than 0");
    }
    Objects.requireNonNull(retryFor);
    if (adapterWait.isZero()) {
      throw Check.error("lora.adapterWait must be greater than 0");
    }
  }
}
