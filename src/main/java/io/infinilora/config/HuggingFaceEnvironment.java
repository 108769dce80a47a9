package io.infinilora.config;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * The variables and the token file by which Hugging Face's own tools are set up, read as settings
 * of {@code hub}, so that who has set those up need not do it again.
 */
final class HuggingFaceEnvironment {
  private static final Set<String> TRUE = Set.of("1", "ON", "YES", "TRUE");
  private static final List<String> TOKENS = List.of("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN");

  private final Map<String, String> environment;

  HuggingFaceEnvironment(Map<String, String> environment) {
    this.environment = environment;
  }

  /** What the variables say. */
  Map<String, Setting> settings() {
    Map<String, Setting> settings = new HashMap<>();
    get("HF_ENDPOINT").ifPresent(text -> put(settings, "hub.endpoint", text, "HF_ENDPOINT"));
    get("HF_HUB_OFFLINE")
        .ifPresent(
            text -> {
              boolean offline = TRUE.contains(text.toUpperCase(Locale.ROOT));
              put(settings, "hub.offline", Boolean.toString(offline), "HF_HUB_OFFLINE");
            });
    if (get("HF_HUB_CACHE").isPresent()) {
      put(settings, "hub.cache", get("HF_HUB_CACHE").get(), "HF_HUB_CACHE");
    } else {
      home()
          .ifPresent(home -> put(settings, "hub.cache", home.resolve("hub").toString(), "HF_HOME"));
    }
    // The last one put wins.
    for (String variable : TOKENS.reversed()) {
      get(variable).ifPresent(text -> put(settings, "hub.token", text, variable));
    }
    return settings;
  }

  /**
   * The token that {@code hf auth login} has left. A file that cannot be read counts as absent: a
   * hub that wants a token says so, while most need none.
   */
  Map<String, Setting> storedToken() {
    Optional<Path> file =
        get("HF_TOKEN_PATH")
            .map(Path::of)
            .or(() -> home().map(home -> home.resolve("token")))
            .or(() -> get("HOME").map(home -> Path.of(home, ".cache", "huggingface", "token")));
    if (file.isEmpty() || !Files.isRegularFile(file.get())) {
      return Map.of();
    }
    try {
      String token = Files.readString(file.get()).strip();
      return token.isEmpty()
          ? Map.of()
          : Map.of("hub.token", new Setting(token, file.get().toString()));
    } catch (IOException e) {
      return Map.of();
    }
  }

  /** The directory of Hugging Face's tools, if it is not at its default place. */
  private Optional<Path> home() {
    return get("HF_HOME")
        .map(Path::of)
        .or(() -> get("XDG_CACHE_HOME").map(cache -> Path.of(cache, "huggingface")));
  }

  private Optional<String> get(String variable) {
    return Optional.ofNullable(environment.get(variable))
        .map(String::strip)
        .filter(text -> !text.isEmpty());
  }

  private static void put(Map<String, Setting> settings, String key, String text, String variable) {
    settings.put(key, new Setting(text, "environment variable " + variable));
  }
}
