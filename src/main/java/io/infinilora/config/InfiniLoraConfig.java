package io.infinilora.config;

import io.infinilora.core.LoraMode;
import java.nio.file.Path;
import java.util.Objects;
import java.util.Optional;

/**
 * All settings of a serving node. Component names are the keys: {@code server.port} in the file and
 * among the flags, {@code INFINILORA_SERVER_PORT} in the environment.
 *
 * @param model model file or directory; must be set to serve
 * @param adapters directory of adapters, one per subdirectory; empty for none
 * @param loraMode where low-rank products are computed
 * @param server the HTTP server
 * @param engine the base model and its LoRA server
 */
public record InfiniLoraConfig(
    Optional<Path> model,
    Optional<Path> adapters,
    LoraMode loraMode,
    ServerConfig server,
    EngineConfig engine) {

  /** All defaults. */
  public static final InfiniLoraConfig DEFAULTS =
      new InfiniLoraConfig(
          Optional.empty(),
          Optional.empty(),
          LoraMode.DISAGGREGATED,
          ServerConfig.DEFAULTS,
          EngineConfig.DEFAULTS);

  /** Rejects nulls. */
  public InfiniLoraConfig {
    Objects.requireNonNull(model);
    Objects.requireNonNull(adapters);
    Objects.requireNonNull(loraMode);
    Objects.requireNonNull(server);
    Objects.requireNonNull(engine);
  }
}
