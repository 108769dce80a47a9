package io.infinilora.config;

import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import java.nio.file.Path;
import java.util.Collections;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.TreeMap;

/**
 * All settings of a serving node. Component names are the keys: {@code server.port} in the file and
 * among the flags, {@code INFINILORA_SERVER_PORT} in the environment.
 *
 * @param model model file, directory or hub reference; must be set to serve
 * @param adapters directory of adapters, one per subdirectory; empty for none
 * @param adapter further adapters by name
 * @param loraMode where low-rank products are computed
 * @param server the HTTP server
 * @param engine the base model and its LoRA server
 * @param lora memory for adapters, and how the LoRA server is divided
 * @param hub where hub references lead
 */
public record InfiniLoraConfig(
    Optional<WeightSource> model,
    Optional<Path> adapters,
    Map<String, WeightSource> adapter,
    LoraMode loraMode,
    ServerConfig server,
    EngineConfig engine,
    LoraConfig lora,
    HubConfig hub) {

  /** All defaults. */
  public static final InfiniLoraConfig DEFAULTS =
      new InfiniLoraConfig(
          Optional.empty(),
          Optional.empty(),
          Map.of(),
          LoraMode.DISAGGREGATED,
          ServerConfig.DEFAULTS,
          EngineConfig.DEFAULTS,
          LoraConfig.DEFAULTS,
          HubConfig.DEFAULTS);

  /** Rejects nulls and impossible names; entries of {@code adapter} are put in order of name. */
  public InfiniLoraConfig {
    Objects.requireNonNull(model);
    Objects.requireNonNull(adapters);
    Objects.requireNonNull(loraMode);
    Objects.requireNonNull(server);
    Objects.requireNonNull(engine);
    Objects.requireNonNull(lora);
    Objects.requireNonNull(hub);
    adapter = Collections.unmodifiableMap(new TreeMap<>(adapter));
    for (String name : adapter.keySet()) {
      if (name.isEmpty() || !name.chars().allMatch(c -> c > ' ' && c != ',' && c != '=')) {
        throw Check.error(
            "adapter: \"%s\" is no name for an adapter; it must not be empty nor hold spaces, commas or \"=\""
                .formatted(name));
      }
    }
  }

  /** The same with other settings of adapters. */
  public InfiniLoraConfig withLora(LoraConfig other) {
    return new InfiniLoraConfig(model, adapters, adapter, loraMode, server, engine, other, hub);
  }

  /** Settings of a node whose model and adapters are files of this machine. */
  public InfiniLoraConfig(
      Optional<Path> model,
      Optional<Path> adapters,
      LoraMode loraMode,
      ServerConfig server,
      EngineConfig engine) {
    this(
        model.map(WeightSource.Local::new),
        adapters,
        Map.of(),
        loraMode,
        server,
        engine,
        LoraConfig.DEFAULTS,
        HubConfig.DEFAULTS);
  }
}
