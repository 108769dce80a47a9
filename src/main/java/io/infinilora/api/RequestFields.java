package io.infinilora.api;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.StreamReadConstraints;
import com.fasterxml.jackson.core.StreamReadFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.JsonProblem;
import java.io.IOException;
import java.util.Optional;

/**
 * Typed access to the fields of a JSON object; a wrong type is an error that names the field.
 * {@code null} counts as absent, as in OpenAI's API.
 */
final class RequestFields {
  /** Deepest nesting of a body; the API's own objects need six levels. */
  static final int MAX_DEPTH = 64;

  private static final int MAX_NUMBER_LENGTH = 100;

  private static final JsonMapper MAPPER =
      JsonMapper.builder(
              JsonFactory.builder()
                  .streamReadConstraints(
                      StreamReadConstraints.builder()
                          .maxNestingDepth(MAX_DEPTH)
                          .maxNumberLength(MAX_NUMBER_LENGTH)
                          .maxStringLength(Integer.MAX_VALUE)
                          .build())
                  .enable(StreamReadFeature.STRICT_DUPLICATE_DETECTION)
                  .build())
          .build();

  private final ObjectNode object;
  private final String prefix;

  private RequestFields(ObjectNode object, String prefix) {
    this.object = object;
    this.prefix = prefix;
  }

  /**
   * Parses a body.
   *
   * @throws InfiniLoraException {@code INVALID_REQUEST} unless it is one JSON object
   */
  static RequestFields parse(byte[] body) {
    JsonNode root;
    try (JsonParser parser = MAPPER.createParser(body)) {
      root = MAPPER.readTree(parser);
      if (root != null && parser.nextToken() != null) {
        throw new InfiniLoraException(
            ErrorCode.INVALID_REQUEST, "The body is not valid JSON: something follows the object");
      }
    } catch (JsonProcessingException e) {
      String at =
          e.getLocation() == null
              ? ""
              : " (line %d, column %d)"
                  .formatted(e.getLocation().getLineNr(), e.getLocation().getColumnNr());
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST,
          "The body is not valid JSON: " + JsonProblem.of(e.getOriginalMessage()) + at,
          e);
    } catch (IOException e) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST, "The body cannot be read: " + e.getMessage(), e);
    }
    if (!(root instanceof ObjectNode object)) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST,
          "The body must be a JSON object, not " + (root == null ? "empty" : typeOf(root)));
    }
    return new RequestFields(object, "");
  }

  /** The fields of an object that was found inside a body. */
  static RequestFields of(JsonNode node, String name) {
    if (!(node instanceof ObjectNode object)) {
      throw wrongType(name, "an object", node);
    }
    return new RequestFields(object, name + ".");
  }

  /** The field's value, or null if absent. */
  JsonNode get(String field) {
    JsonNode node = object.get(field);
    return node == null || node.isNull() ? null : node;
  }

  /** The whole object. */
  ObjectNode object() {
    return object;
  }

  /** The field's full name, for errors. */
  String name(String field) {
    return prefix + field;
  }

  Optional<String> string(String field) {
    JsonNode node = get(field);
    if (node == null) {
      return Optional.empty();
    }
    return Optional.of(string(node, name(field)));
  }

  String requiredString(String field) {
    return string(field).orElseThrow(() -> new InvalidFieldException(name(field), "is required"));
  }

  boolean bool(String field, boolean absent) {
    JsonNode node = get(field);
    if (node == null) {
      return absent;
    }
    if (!node.isBoolean()) {
      throw wrongType(name(field), "a boolean", node);
    }
    return node.booleanValue();
  }

  double number(String field, double absent) {
    JsonNode node = get(field);
    return node == null ? absent : number(node, name(field));
  }

  Optional<Long> integer(String field) {
    JsonNode node = get(field);
    if (node == null) {
      return Optional.empty();
    }
    if (!node.isIntegralNumber()) {
      throw wrongType(name(field), "an integer", node);
    }
    if (!node.canConvertToLong()) {
      throw new InvalidFieldException(name(field), "must fit into 64 bits");
    }
    return Optional.of(node.longValue());
  }

  /** An integer in a range. */
  Optional<Integer> integer(String field, int min, int max) {
    return integer(field)
        .map(
            value -> {
              if (value < min || value > max) {
                throw new InvalidFieldException(name(field), outside(min, max, value));
              }
              return value.intValue();
            });
  }

  private static String outside(int min, int max, long value) {
    if (max < Integer.MAX_VALUE) {
      return "must be between %d and %d, not %d".formatted(min, max, value);
    }
    return value < min
        ? "must be at least %d, not %d".formatted(min, value)
        : "must be at most %d, not %d".formatted(max, value);
  }

  static String string(JsonNode node, String name) {
    if (!node.isTextual()) {
      throw wrongType(name, "a string", node);
    }
    return node.textValue();
  }

  static double number(JsonNode node, String name) {
    if (!node.isNumber()) {
      throw wrongType(name, "a number", node);
    }
    return node.doubleValue();
  }

  static InvalidFieldException wrongType(String name, String wanted, JsonNode found) {
    return new InvalidFieldException(name, "must be " + wanted + ", not " + typeOf(found));
  }

  private static String typeOf(JsonNode node) {
    return switch (node.getNodeType()) {
      case STRING -> "a string";
      case NUMBER -> node.isIntegralNumber() ? "an integer" : "a fraction";
      case BOOLEAN -> "a boolean";
      case ARRAY -> "an array";
      case OBJECT -> "an object";
      case NULL -> "null";
      default -> "empty";
    };
  }
}
