package io.infinilora.config;

import io.infinilora.core.LoraMode;
import io.infinilora.core.WeightSource;
import java.nio.file.Path;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
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
 * @param role what the process does
 * @param server the HTTP server
 * @param engine the base model and its LoRA server
 * @param lora memory for adapters, and how the LoRA server is divided
 * @param hub where hub references lead
 * @param device what computes
 * @param cluster how the process joins others
 */
public record InfiniLoraConfig(
    Optional<WeightSource> model,
    Optional<Path> adapters,
    Map<String, WeightSource> adapter,
    LoraMode loraMode,
    Role role,
    ServerConfig server,
    EngineConfig engine,
    LoraConfig lora,
    HubConfig hub,
    DeviceConfig device,
    ClusterConfig cluster) {

  /** All defaults. */
  public static final InfiniLoraConfig DEFAULTS =
      new InfiniLoraConfig(
          Optional.empty(),
          Optional.empty(),
          Map.of(),
          LoraMode.DISAGGREGATED,
          Role.ALL,
          ServerConfig.DEFAULTS,
          EngineConfig.DEFAULTS,
          LoraConfig.DEFAULTS,
          HubConfig.DEFAULTS,
          DeviceConfig.DEFAULTS,
          ClusterConfig.DEFAULTS);

  /** Rejects nulls and impossible names; entries of {@code adapter} are put in order of name. */
  public InfiniLoraConfig {
    Objects.requireNonNull(model);
    Objects.requireNonNull(adapters);
    Objects.requireNonNull(loraMode);
    Objects.requireNonNull(server);
    Objects.requireNonNull(engine);
    Objects.requireNonNull(lora);
    Objects.requireNonNull(hub);
    Objects.requireNonNull(device);
    checkRole(role, loraMode, lora, cluster);
    adapter = Collections.unmodifiableMap(new TreeMap<>(adapter));
    for (String name : adapter.keySet()) {
      if (name.isEmpty() || !name.chars().allMatch(c -> c > ' ' && c != ',' && c != '=')) {
        throw Check.error(
            "adapter: \"%s\" is no name for an adapter; it must not be empty nor hold spaces, commas or \"=\""
                .formatted(name));
      }
    }
  }

  private static void checkRole(
      Role role, LoraMode loraMode, LoraConfig lora, ClusterConfig cluster) {
    if (role == Role.ALL) {
      if (!cluster.equals(ClusterConfig.DEFAULTS)) {
        throw Check.error(
            "cluster: a process of role all joins no others; set role to base, lora or gateway");
      }
      return;
    }
    boolean fits =
        switch (role) {
          case LORA -> loraMode == LoraMode.DISAGGREGATED;
          case GATEWAY -> loraMode != LoraMode.COUPLED;
          default -> true;
        };
    if (!fits) {
      throw Check.error("loraMode of role %s cannot be %s".formatted(lower(role), lower(loraMode)));
    }
    int shards = lora.shards().shards().size();
    for (int shard : cluster.shards().orElse(List.of())) {
      Check.between("cluster.shards", 0, shards - 1, shard);
    }
  }

  private static String lower(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }

  /** Name of this process among those of its cluster. */
  public String nodeName() {
    return cluster
        .node()
        .orElseGet(() -> "%s-%s-%d".formatted(lower(role), cluster.host(), cluster.port()));
  }

  /** The same in another role. */
  public InfiniLoraConfig withRole(Role other, ClusterConfig where) {
    return new InfiniLoraConfig(
        model, adapters, adapter, loraMode, other, server, engine, lora, hub, device, where);
  }

  /** The same with other settings of adapters. */
  public InfiniLoraConfig withLora(LoraConfig other) {
    return new InfiniLoraConfig(
        model, adapters, adapter, loraMode, role, server, engine, other, hub, device, cluster);
  }

  /** The same on another device. */
  public InfiniLoraConfig withDevice(DeviceConfig other) {
    return new InfiniLoraConfig(
        model, adapters, adapter, loraMode, role, server, engine, lora, hub, other, cluster);
  }

  /** Settings of a process of role {@code all}. */
  public InfiniLoraConfig(
      Optional<WeightSource> model,
      Optional<Path> adapters,
      Map<String, WeightSource> adapter,
      LoraMode loraMode,
      ServerConfig server,
      EngineConfig engine,
      LoraConfig lora,
      HubConfig hub) {
    this(
        model,
        adapters,
        adapter,
        loraMode,
        Role.ALL,
        server,
        engine,
        lora,
        hub,
        DeviceConfig.DEFAULTS,
        ClusterConfig.DEFAULTS);
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
