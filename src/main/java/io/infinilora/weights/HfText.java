package io.infinilora.weights;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectReader;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.JsonProblem;
import io.infinilora.core.TextAssets;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;

/** Tokenizer files and chat template next to a {@code config.json}. */
final class HfText {

  private static final String TOKENIZER = "tokenizer.json";
  private static final String TOKENIZER_CONFIG = "tokenizer_config.json";
  private static final String TEMPLATE = "chat_template.jinja";
  private static final String TEMPLATE_KEY = "chat_template";

  /** Reads one value of a document and leaves the rest. */
  private static final ObjectReader PART =
      JsonFields.MAPPER.reader().without(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

  private HfText() {}

  /** Reads what is there; a directory without tokenizer files gives {@link TextAssets#none}. */
  static TextAssets read(Path directory) {
    Path tokenizer = directory.resolve(TOKENIZER);
    Optional<Path> tokenizerJson =
        Files.isRegularFile(tokenizer) ? Optional.of(tokenizer) : Optional.empty();
    Path configFile = directory.resolve(TOKENIZER_CONFIG);
    Optional<JsonFields> config =
        Files.isRegularFile(configFile)
            ? Optional.of(JsonFields.read(configFile, ErrorCode.BAD_MODEL_FILE))
            : Optional.empty();
    String bos = config.map(c -> token(c, "bos_token")).orElse("");
    Optional<JsonFields> stated = config.filter(c -> c.has("add_bos_token"));
    boolean addBos =
        stated
            .map(c -> c.flag("add_bos_token", false))
            .orElseGet(() -> tokenizerJson.isPresent() && startsWithSpecial(tokenizer));
    return new TextAssets(
        tokenizerJson,
        Optional.empty(),
        template(directory, config),
        bos,
        config.map(c -> token(c, "eos_token")).orElse(""),
        addBos && !bos.isEmpty());
  }

  /** A special token: a string, an object with its text in {@code content}, or null. */
  private static String token(JsonFields config, String key) {
    JsonNode value = config.raw(key);
    if (value.isObject()) {
      value = value.path("content");
    }
    if (value.isMissingNode() || value.isNull()) {
      return "";
    }
    if (!value.isTextual()) {
      throw config.bad(key, "is neither a string nor an object with the string content");
    }
    return value.textValue();
  }

  /**
   * The template file wins over the one in the configuration, which is a string or a list of named
   * templates, of which the default one counts.
   */
  private static Optional<String> template(Path directory, Optional<JsonFields> config) {
    Path file = directory.resolve(TEMPLATE);
    if (Files.isRegularFile(file)) {
      try {
        if (Files.size(file) > JsonFields.MAX_BYTES) {
          throw bad(file, "too large for a chat template", null);
        }
        return Optional.of(new String(Files.readAllBytes(file), StandardCharsets.UTF_8));
      } catch (IOException e) {
        throw bad(file, "cannot be read: " + e.getMessage(), e);
      }
    }
    if (config.isEmpty() || !config.get().has(TEMPLATE_KEY)) {
      return Optional.empty();
    }
    JsonNode value = config.get().raw(TEMPLATE_KEY);
    if (!value.isArray()) {
      return config.get().text(TEMPLATE_KEY);
    }
    for (JsonNode named : value) {
      if (named.path("name").asText().equals("default")) {
        return Optional.of(named.path("template").asText());
      }
    }
    return Optional.empty();
  }

  /**
   * Whether the post-processor of a {@code tokenizer.json} puts a special token in front of a text.
   * Only that field is kept; the vocabulary is skipped over.
   */
  private static boolean startsWithSpecial(Path tokenizer) {
    try (JsonParser parser = JsonFields.MAPPER.createParser(tokenizer.toFile())) {
      if (parser.nextToken() != JsonToken.START_OBJECT) {
        throw bad(tokenizer, "not a JSON object", null);
      }
      while (parser.nextToken() == JsonToken.FIELD_NAME) {
        String field = parser.currentName();
        parser.nextToken();
        if (field.equals("post_processor")) {
          return hasLeadingSpecial(PART.readTree(parser));
        }
        parser.skipChildren();
      }
      return false;
    } catch (JsonProcessingException e) {
      throw bad(tokenizer, "not valid JSON: " + JsonProblem.of(e.getOriginalMessage()), e);
    } catch (IOException e) {
      throw bad(tokenizer, "cannot be read: " + e.getMessage(), e);
    }
  }

  private static boolean hasLeadingSpecial(JsonNode processor) {
    for (JsonNode inner : processor.path("processors")) {
      if (hasLeadingSpecial(inner)) {
        return true;
      }
    }
    return processor.path("single").path(0).has("SpecialToken");
  }

  private static InfiniLoraException bad(Path file, String message, Throwable cause) {
    return new InfiniLoraException(ErrorCode.BAD_MODEL_FILE, file + ": " + message, cause);
  }
}
