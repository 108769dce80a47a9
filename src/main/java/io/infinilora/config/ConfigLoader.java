package io.infinilora.config;

import io.infinilora.core.InfiniLoraException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * Collects settings: flags over environment over file over defaults. Whatever is not a known key is
 * an error wherever it stands, so that a slip of the pen is never a silent default. Variables of
 * Hugging Face's tools rank below those of InfiniLoRA.
 */
public final class ConfigLoader {
  /** Read if it exists and no other file is named. */
  public static final Path DEFAULT_FILE = Path.of("conf", "infinilora.yaml");

  private static final String VARIABLE_PREFIX = "INFINILORA_";
  private static final List<String> KEYS = RecordBinder.keys(InfiniLoraConfig.class);
  private static final List<String> MAP_KEYS = RecordBinder.mapKeys(InfiniLoraConfig.class);

  private static final List<String> LIST_KEYS = RecordBinder.listKeys(InfiniLoraConfig.class);

  private static final String TOKEN = "hub.token";

  private ConfigLoader() {}

  /**
   * Loads the settings of this process.
   *
   * @param flags values by key, such as {@code server.port}
   * @param file the file to read, which must exist; empty for {@link #DEFAULT_FILE}
   * @throws InfiniLoraException {@code BAD_CONFIG} naming place, key, value and what is expected
   */
  public static InfiniLoraConfig load(Map<String, String> flags, Optional<Path> file) {
    Optional<Path> existing =
        file.or(() -> Optional.of(DEFAULT_FILE).filter(path -> Files.exists(path)));
    return load(flags, System.getenv(), existing);
  }

  static InfiniLoraConfig load(
      Map<String, String> flags, Map<String, String> environment, Optional<Path> file) {
    HuggingFaceEnvironment huggingFace = new HuggingFaceEnvironment(environment);
    Map<String, Setting> settings = new HashMap<>();
    file.map(YamlSettings::read).ifPresent(read -> putAll(settings, fromFile(read)));
    settings.putAll(huggingFace.settings());
    putAll(settings, fromEnvironment(environment));
    Map<String, Setting> given = new HashMap<>();
    flags.forEach(
        (key, text) -> {
          checkKnown(key, "command line");
          given.put(key, new Setting(text, "command line"));
        });
    putAll(settings, given);
    if (settings.get(TOKEN) == null || settings.get(TOKEN).text() == null) {
      settings.putAll(huggingFace.storedToken());
    }
    return RecordBinder.bind(InfiniLoraConfig.DEFAULTS, settings);
  }

  private static Map<String, Setting> fromFile(Map<String, Setting> read) {
    Map<String, Setting> settings = new HashMap<>(read);
    settings.entrySet().removeIf(ConfigLoader::isEmptyGroup);
    settings.forEach(
        (key, setting) -> {
          checkKnown(key, setting.origin());
          if (setting.list() && !LIST_KEYS.contains(key)) {
            throw Check.error("%s: %s must be a single value".formatted(setting.origin(), key));
          }
        });
    return settings;
  }

  /** Adds settings of higher rank; a map that is written as one text becomes its entries. */
  private static void putAll(Map<String, Setting> settings, Map<String, Setting> higher) {
    higher.forEach(
        (key, setting) -> {
          if (MAP_KEYS.contains(key)) {
            putEntries(settings, key, setting);
          }
        });
    higher.forEach(
        (key, setting) -> {
          if (!MAP_KEYS.contains(key)) {
            settings.put(key, setting);
          }
        });
  }

  private static void putEntries(Map<String, Setting> settings, String key, Setting setting) {
    if (setting.text() == null || setting.text().isBlank()) {
      return;
    }
    for (String entry : setting.text().split(",")) {
      int equals = entry.indexOf('=');
      if (equals < 0) {
        throw Check.error(
            "%s: %s must be NAME=VALUE, several joined by commas, not \"%s\""
                .formatted(setting.origin(), key, setting.text()));
      }
      settings.put(
          key + "." + entry.substring(0, equals).strip(),
          new Setting(entry.substring(equals + 1).strip(), setting.origin()));
    }
  }

  /** Every key, in the order of the example file. */
  public static List<String> keys() {
    return KEYS;
  }

  /** The environment variable of a key: {@code INFINILORA_SERVER_PORT} for {@code server.port}. */
  public static String variable(String key) {
    return VARIABLE_PREFIX
        + key.replaceAll("([a-z])([A-Z])", "$1_$2").replace('.', '_').toUpperCase(Locale.ROOT);
  }

  private static Map<String, Setting> fromEnvironment(Map<String, String> environment) {
    Map<String, String> keys =
        KEYS.stream().collect(Collectors.toMap(ConfigLoader::variable, Function.identity()));
    Map<String, Setting> settings = new HashMap<>();
    environment.forEach(
        (variable, text) -> {
          if (keys.containsKey(variable)) {
            settings.put(keys.get(variable), new Setting(text, "environment variable " + variable));
          } else if (variable.startsWith(VARIABLE_PREFIX)) {
            throw Check.error(
                "unknown environment variable %s%s"
                    .formatted(variable, Suggestion.of(variable, keys.keySet())));
          }
        });
    return settings;
  }

  /** Whether this is a group's name with nothing below it, as when all its lines are comments. */
  private static boolean isEmptyGroup(Map.Entry<String, Setting> entry) {
    return entry.getValue().text() == null
        && KEYS.stream().anyMatch(key -> key.startsWith(entry.getKey() + "."));
  }

  private static void checkKnown(String key, String origin) {
    if (!KEYS.contains(key) && MAP_KEYS.stream().noneMatch(map -> key.startsWith(map + "."))) {
      Optional<String> member =
          KEYS.stream().filter(known -> known.startsWith(key + ".")).findFirst();
      throw Check.error(
          member
              .map(
                  known ->
                      "%s: %s is a group of settings, such as %s, and has no value of its own"
                          .formatted(origin, key, known))
              .orElse("%s: unknown key %s%s".formatted(origin, key, Suggestion.of(key, KEYS))));
    }
  }
}
