package io.infinilora.api;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads the {@code messages} of a chat request into what chat templates expect. */
final class ChatMessages {
  private ChatMessages() {}

  /** Messages with {@code role}, {@code content} (text) and, if given, {@code name}. */
  static List<Map<String, Object>> read(JsonNode node) {
    if (node == null) {
      throw new InvalidFieldException("messages", "is required");
    }
    if (!node.isArray()) {
      throw RequestFields.wrongType("messages", "an array", node);
    }
    if (node.isEmpty()) {
      throw new InvalidFieldException("messages", "must have at least one message");
    }
    List<Map<String, Object>> messages = new ArrayList<>(node.size());
    for (JsonNode item : node) {
      messages.add(message(RequestFields.of(item, "messages[" + messages.size() + "]")));
    }
    return messages;
  }

  private static Map<String, Object> message(RequestFields fields) {
    Map<String, Object> message = new LinkedHashMap<>();
    message.put("role", role(fields));
    message.put("content", content(fields));
    fields.string("name").ifPresent(name -> message.put("name", name));
    for (String unsupported : List.of("tool_calls", "function_call", "audio")) {
      if (fields.get(unsupported) != null) {
        throw new InvalidFieldException(fields.name(unsupported), "is not supported");
      }
    }
    return message;
  }

  private static String role(RequestFields fields) {
    String role = fields.requiredString("role");
    return switch (role) {
      case "system", "user", "assistant" -> role;
      case "developer" -> "system"; // the newer name of the same role
      case "tool", "function" ->
          throw new InvalidFieldException(
              fields.name("role"), "'%s' is not supported".formatted(role));
      default ->
          throw new InvalidFieldException(
              fields.name("role"),
              "must be system, developer, user or assistant, not '%s'".formatted(role));
    };
  }

  private static String content(RequestFields fields) {
    JsonNode node = fields.get("content");
    String name = fields.name("content");
    if (node == null) {
      throw new InvalidFieldException(name, "is required");
    }
    if (node.isTextual()) {
      return node.textValue();
    }
    if (!node.isArray()) {
      throw RequestFields.wrongType(name, "a string or an array of text parts", node);
    }
    List<String> texts = new ArrayList<>(node.size());
    for (JsonNode item : node) {
      RequestFields part = RequestFields.of(item, name + "[" + texts.size() + "]");
      String type = part.requiredString("type");
      if (!type.equals("text")) {
        throw new InvalidFieldException(
            part.name("type"), "'%s' is not supported; 'text' is".formatted(type));
      }
      texts.add(part.requiredString("text"));
    }
    return String.join("\n", texts);
  }
}
