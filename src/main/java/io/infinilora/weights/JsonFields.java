package io.infinilora.weights;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.JsonProblem;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * A JSON object with typed access to its fields, whose errors name file and field. A field that is
 * null counts as absent, except for {@link #contains}.
 */
final class JsonFields {

  /** Largest configuration file that is read; real ones stay well below one MiB. */
  static final long MAX_BYTES = 64L << 20;

  static final ObjectMapper MAPPER =
      new ObjectMapper()
          .enable(JsonParser.Feature.STRICT_DUPLICATE_DETECTION)
          .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS);

  private final ObjectNode node;
  private final String source;
  private final String prefix;
  private final ErrorCode code;

  private JsonFields(ObjectNode node, String source, String prefix, ErrorCode code) {
    this.node = node;
    this.source = source;
    this.prefix = prefix;
    this.code = code;
  }

  /** Reads a file that holds one object. */
  static JsonFields read(Path file, ErrorCode code) {
    if (!Files.isRegularFile(file)) {
      throw new InfiniLoraException(code, file + ": no such file");
    }
    try {
      long size = Files.size(file);
      if (size > MAX_BYTES) {
        throw new InfiniLoraException(
            code, file + ": " + size + " bytes is too large for a JSON configuration");
      }
      return parse(Files.readAllBytes(file), file.toString(), code);
    } catch (IOException e) {
      throw new InfiniLoraException(code, file + ": cannot be read: " + e.getMessage(), e);
    }
  }

  /** Parses one object. {@code source} names it in errors. */
  static JsonFields parse(byte[] json, String source, ErrorCode code) {
    try {
      if (MAPPER.readTree(json) instanceof ObjectNode object) {
        return new JsonFields(object, source, "", code);
      }
      throw new InfiniLoraException(code, source + ": not a JSON object");
    } catch (JsonProcessingException e) {
      throw new InfiniLoraException(
          code, source + ": not valid JSON: " + JsonProblem.of(e.getOriginalMessage()), e);
    } catch (IOException e) {
      throw new InfiniLoraException(code, source + ": not valid JSON: " + e.getMessage(), e);
    }
  }

  /** Whether the field is there, be it null. */
  boolean contains(String key) {
    return node.has(key);
  }

  /** Whether the field is there and not null. */
  boolean has(String key) {
    return node.hasNonNull(key);
  }

  /** The field's value, or a null or missing node. */
  JsonNode raw(String key) {
    return node.path(key);
  }

  /** The whole object. */
  ObjectNode tree() {
    return node;
  }

  /** A required integer. */
  int integer(String key) {
    return optionalInteger(key).orElseThrow(() -> missing(key));
  }

  /** An integer with a default. */
  int integer(String key, int absent) {
    return optionalInteger(key).orElse(absent);
  }

  /** An integer if there is one. */
  OptionalInt optionalInteger(String key) {
    if (!has(key)) {
      return OptionalInt.empty();
    }
    JsonNode value = node.get(key);
    if (!value.isIntegralNumber() || !value.canConvertToInt()) {
      throw bad(key, "is " + shown(value) + ", not a 32-bit integer");
    }
    return OptionalInt.of(value.intValue());
  }

  /** One integer or a list of them; empty if absent. */
  List<Integer> integers(String key) {
    if (!has(key)) {
      return List.of();
    }
    JsonNode value = node.get(key);
    List<Integer> result = new ArrayList<>();
    for (JsonNode item : value.isArray() ? value : List.of(value)) {
      if (!item.isIntegralNumber() || !item.canConvertToInt()) {
        throw bad(key, "has " + shown(item) + " where a 32-bit integer belongs");
      }
      result.add(item.intValue());
    }
    return result;
  }

  /** A required finite number. */
  double number(String key) {
    if (!has(key)) {
      throw missing(key);
    }
    return number(key, 0);
  }

  /** A finite number with a default. */
  double number(String key, double absent) {
    return has(key) ? finite(key, node.get(key)) : absent;
  }

  private double finite(String key, JsonNode value) {
    if (!value.isNumber() || !Double.isFinite(value.doubleValue())) {
      throw bad(key, "is " + shown(value) + ", not a finite number");
    }
    return value.doubleValue();
  }

  /** A boolean with a default. */
  boolean flag(String key, boolean absent) {
    if (!has(key)) {
      return absent;
    }
    JsonNode value = node.get(key);
    if (!value.isBoolean()) {
      throw bad(key, "is " + shown(value) + ", not true or false");
    }
    return value.booleanValue();
  }

  /** A string if there is one. */
  Optional<String> text(String key) {
    if (!has(key)) {
      return Optional.empty();
    }
    JsonNode value = node.get(key);
    if (!value.isTextual()) {
      throw bad(key, "is " + shown(value) + ", not a string");
    }
    return Optional.of(value.textValue());
  }

  /** A list of strings; empty if absent. */
  List<String> texts(String key) {
    if (!has(key)) {
      return List.of();
    }
    JsonNode value = node.get(key);
    if (!value.isArray()) {
      throw bad(key, "is " + shown(value) + ", not a list");
    }
    List<String> result = new ArrayList<>();
    for (JsonNode item : value) {
      if (!item.isTextual()) {
        throw bad(key, "has " + shown(item) + " where a string belongs");
      }
      result.add(item.textValue());
    }
    return result;
  }

  /** An object of numbers in file order; empty if absent. */
  Map<String, Double> numbers(String key) {
    Map<String, Double> result = new LinkedHashMap<>();
    object(key)
        .ifPresent(
            fields ->
                fields
                    .node
                    .properties()
                    .forEach(e -> result.put(e.getKey(), fields.finite(e.getKey(), e.getValue()))));
    return result;
  }

  /** A nested object if there is one. */
  Optional<JsonFields> object(String key) {
    if (!has(key)) {
      return Optional.empty();
    }
    if (node.get(key) instanceof ObjectNode object) {
      return Optional.of(new JsonFields(object, source, prefix + key + ".", code));
    }
    throw bad(key, "is " + shown(node.get(key)) + ", not an object");
  }

  /** An error about a field. */
  InfiniLoraException bad(String key, String message) {
    return new InfiniLoraException(code, source + ": " + prefix + key + " " + message);
  }

  /** An error about the whole file. */
  InfiniLoraException fault(String message) {
    return new InfiniLoraException(code, source + ": " + message);
  }

  private InfiniLoraException missing(String key) {
    return bad(key, "is missing");
  }

  private static String shown(JsonNode value) {
    String text = value.toString();
    return text.length() <= 60 ? text : text.substring(0, 60) + "...";
  }
}
