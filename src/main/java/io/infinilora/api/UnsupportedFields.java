package io.infinilora.api;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * Fields that would change the output and that this server does not implement. They are refused by
 * name, since an answer that ignores them would be wrong without a sign; other unknown fields are
 * ignored, so that clients may send what only other servers know.
 */
final class UnsupportedFields {
  private static final List<String> REFUSED =
      List.of(
          // OpenAI
          "tools",
          "tool_choice",
          "functions",
          "function_call",
          "audio",
          "web_search_options",
          "reasoning_effort",
          "verbosity",
          "suffix",
          // Extensions of vLLM and llama.cpp that their clients send
          "guided_json",
          "guided_regex",
          "guided_choice",
          "guided_grammar",
          "structured_outputs",
          "grammar",
          "json_schema",
          "use_beam_search",
          "min_tokens",
          "bad_words",
          "allowed_token_ids",
          "logits_processors",
          "truncate_prompt_tokens",
          "include_stop_str_in_output",
          "prompt_logprobs",
          "chat_template",
          "continue_final_message");

  /** Values with which a field that is refused otherwise changes nothing. */
  private static final Map<String, List<String>> HARMLESS =
      Map.of(
          "tool_choice", List.of("none"),
          "function_call", List.of("none"));

  private UnsupportedFields() {}

  /** Refuses a request that has any of them. */
  static void check(RequestFields fields, int n) {
    for (String field : REFUSED) {
      JsonNode node = fields.get(field);
      if (node != null && !neutral(field, node)) {
        throw new InvalidFieldException(field, "is not supported");
      }
    }
    JsonNode format = fields.get("response_format");
    if (format != null) {
      String type = RequestFields.of(format, "response_format").requiredString("type");
      if (!type.equals("text")) {
        throw new InvalidFieldException(
            "response_format", "of type '%s' is not supported; 'text' is".formatted(type));
      }
    }
    JsonNode modalities = fields.get("modalities");
    if (modalities != null
        && !(modalities.isArray()
            && modalities.size() == 1
            && modalities.get(0).asText().equals("text"))) {
      throw new InvalidFieldException("modalities", "other than [\"text\"] are not supported");
    }
    Optional<Integer> bestOf = fields.integer("best_of", 1, Integer.MAX_VALUE);
    if (bestOf.isPresent() && bestOf.get() != n) {
      throw new InvalidFieldException("best_of", "other than n is not supported");
    }
    if (!fields.bool("skip_special_tokens", true)) {
      throw new InvalidFieldException("skip_special_tokens", "cannot be switched off");
    }
    if (!fields.bool("add_generation_prompt", true)) {
      throw new InvalidFieldException("add_generation_prompt", "cannot be switched off");
    }
  }

  private static boolean neutral(String field, JsonNode node) {
    return switch (node.getNodeType()) {
      case BOOLEAN -> !node.booleanValue();
      case ARRAY, OBJECT -> node.isEmpty();
      case NUMBER -> node.isIntegralNumber() && node.longValue() == 0;
      case STRING ->
          node.textValue().isEmpty()
              || HARMLESS.getOrDefault(field, List.of()).contains(node.textValue());
      default -> false;
    };
  }
}
