package io.infinilora.config;

import java.util.Objects;
import java.util.Optional;

/**
 * The device that base model and adapters are computed on.
 *
 * @param kind which kind
 * @param index number of the GPU, from 0
 * @param memory GPU memory that may be used; empty for nine tenths of what is free at the start
 */
public record DeviceConfig(DeviceKind kind, int index, Optional<ByteSize> memory) {

  /** The processor. */
  public static final DeviceConfig DEFAULTS = new DeviceConfig(DeviceKind.CPU, 0, Optional.empty());

  /** Rejects impossible values, naming the key. */
  public DeviceConfig {
    Objects.requireNonNull(kind);
    Check.atLeast("device.index", 0, index);
    memory.ifPresent(bytes -> Check.positive("device.memory", bytes));
  }
}
