package io.infinilora.cli;

import io.infinilora.config.ConfigLoader;
import io.infinilora.config.InfiniLoraConfig;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import picocli.CommandLine.Option;

/**
 * What the commands have in common that may download: where the settings come from, and the hub.
 */
final class HubOptions {
  @Option(
      names = "--config",
      paramLabel = "FILE",
      description = "Settings file; conf/infinilora.yaml if there is one.")
  private Optional<Path> config = Optional.empty();

  private final Map<String, String> flags = new LinkedHashMap<>();

  @Option(
      names = "--endpoint",
      paramLabel = "URL",
      description = "Mirror of the hub; also HF_ENDPOINT.")
  void endpoint(String value) {
    flags.put("hub.endpoint", value);
  }

  @Option(
      names = "--cache",
      paramLabel = "DIR",
      description = "Where downloads are kept; also HF_HUB_CACHE.")
  void cache(String value) {
    flags.put("hub.cache", value);
  }

  @Option(
      names = "--offline",
      description = "Use what is in the hub's cache only; also HF_HUB_OFFLINE=1.")
  void offline(boolean value) {
    flags.put("hub.offline", Boolean.toString(value));
  }

  /**
   * The settings with these options.
   *
   * @param others further settings by key, which win
   */
  InfiniLoraConfig settings(Map<String, String> others) {
    Map<String, String> all = new LinkedHashMap<>(flags);
    all.putAll(others);
    return ConfigLoader.load(all, config);
  }
}
