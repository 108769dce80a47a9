package io.infinilora.api;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;

/** A prompt as a completion request gives it. */
sealed interface PromptInput {

  /** Text, to be tokenised. */
  record Text(String text) implements PromptInput {}

  /** Token ids, taken as they are. */
  record Tokens(int[] tokens) implements PromptInput {}

  /** Reads the four forms of {@code prompt}: a text, texts, token ids, lists of token ids. */
  static List<PromptInput> list(JsonNode node, int vocab) {
    if (node == null) {
      throw new InvalidFieldException("prompt", "is required");
    }
    if (node.isTextual()) {
      return List.of(new Text(node.textValue()));
    }
    if (!node.isArray()) {
      throw RequestFields.wrongType("prompt", "a string or an array", node);
    }
    if (node.isEmpty()) {
      throw new InvalidFieldException("prompt", "must not be an empty array");
    }
    if (node.get(0).isNumber()) {
      return List.of(tokens(node, "prompt", vocab));
    }
    List<PromptInput> prompts = new ArrayList<>(node.size());
    boolean texts = node.get(0).isTextual();
    for (JsonNode item : node) {
      String name = "prompt[" + prompts.size() + "]";
      if (texts) {
        prompts.add(new Text(RequestFields.string(item, name)));
      } else if (item.isArray() && !item.isEmpty()) {
        prompts.add(tokens(item, name, vocab));
      } else {
        throw RequestFields.wrongType(name, "a string or a non-empty array of token ids", item);
      }
    }
    return prompts;
  }

  private static Tokens tokens(JsonNode array, String name, int vocab) {
    int[] tokens = new int[array.size()];
    for (int i = 0; i < tokens.length; i++) {
      JsonNode item = array.get(i);
      if (!item.isIntegralNumber()
          || !item.canConvertToInt()
          || item.intValue() < 0
          || item.intValue() >= vocab) {
        SamplingFields.token(item, name + "[" + i + "]", vocab);
      }
      tokens[i] = item.intValue();
    }
    return new Tokens(tokens);
  }
}
