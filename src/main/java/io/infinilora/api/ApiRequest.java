package io.infinilora.api;

import com.fasterxml.jackson.databind.JsonNode;
import io.infinilora.api.text.ChatTemplate;
import io.infinilora.core.SamplingParams;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * A validated body of {@code /v1/completions} or {@code /v1/chat/completions}.
 *
 * @param kind which of the two
 * @param model name of the base model or an adapter
 * @param prompts the prompts; empty for chats
 * @param messages the messages; empty for completions
 * @param templateArguments extra variables of the chat template ({@code chat_template_kwargs})
 * @param n choices per prompt
 * @param maxTokens most output tokens, if given
 * @param sampling how tokens are chosen
 * @param stop stop strings
 * @param stream whether the answer comes as server-sent events
 * @param includeUsage whether a stream ends with a chunk that has the usage
 * @param echo whether the answer starts with the prompt
 * @param returnTokenIds whether choices have {@code token_ids}
 */
record ApiRequest(
    Kind kind,
    String model,
    List<PromptInput> prompts,
    List<Map<String, Object>> messages,
    Map<String, Object> templateArguments,
    int n,
    Optional<Integer> maxTokens,
    SamplingFields sampling,
    List<String> stop,
    boolean stream,
    boolean includeUsage,
    boolean echo,
    boolean returnTokenIds) {

  /** Most choices of one request, over all its prompts. */
  static final int MAX_CHOICES = 128;

  /** Most stop strings; OpenAI allows 4. */
  static final int MAX_STOPS = 32;

  /** The two endpoints. */
  enum Kind {
    TEXT,
    CHAT
  }

  /** Whether log-probabilities were asked for. */
  boolean logprobs() {
    return sampling.logprobs() >= 0;
  }

  /**
   * Reads and checks a body.
   *
   * @param vocab size of the vocabulary, the bound of token ids
   */
  static ApiRequest of(Kind kind, RequestFields fields, int vocab) {
    int n = fields.integer("n", 1, MAX_CHOICES).orElse(1);
    UnsupportedFields.check(fields, n);
    boolean chat = kind == Kind.CHAT;
    List<PromptInput> prompts = chat ? List.of() : PromptInput.list(fields.get("prompt"), vocab);
    if ((long) prompts.size() * n > MAX_CHOICES) {
      throw new InvalidFieldException(
          "prompt",
          "has %d items, which with n = %d makes more than %d choices"
              .formatted(prompts.size(), n, MAX_CHOICES));
    }
    boolean stream = fields.bool("stream", false);
    return new ApiRequest(
        kind,
        fields.requiredString("model"),
        prompts,
        chat ? ChatMessages.read(fields.get("messages")) : List.of(),
        templateArguments(fields),
        n,
        maxTokens(kind, fields),
        SamplingFields.of(fields, chat ? chatLogprobs(fields) : textLogprobs(fields), vocab),
        stops(fields.get("stop")),
        stream,
        includeUsage(fields, stream),
        !chat && fields.bool("echo", false),
        fields.bool("return_token_ids", false));
  }

  private static Optional<Integer> maxTokens(Kind kind, RequestFields fields) {
    Optional<Integer> older = fields.integer("max_tokens", 1, Integer.MAX_VALUE);
    return kind == Kind.CHAT
        ? fields.integer("max_completion_tokens", 1, Integer.MAX_VALUE).or(() -> older)
        : older;
  }

  private static int textLogprobs(RequestFields fields) {
    return fields.integer("logprobs", 0, SamplingParams.MAX_LOGPROBS).orElse(-1);
  }

  private static int chatLogprobs(RequestFields fields) {
    boolean wanted = fields.bool("logprobs", false);
    Optional<Integer> top = fields.integer("top_logprobs", 0, SamplingParams.MAX_LOGPROBS);
    if (top.isPresent() && !wanted) {
      throw new InvalidFieldException("top_logprobs", "needs logprobs to be true");
    }
    return wanted ? top.orElse(0) : -1;
  }

  private static boolean includeUsage(RequestFields fields, boolean stream) {
    JsonNode options = fields.get("stream_options");
    if (options == null) {
      return false;
    }
    if (!stream) {
      throw new InvalidFieldException("stream_options", "needs stream to be true");
    }
    return RequestFields.of(options, "stream_options").bool("include_usage", false);
  }

  private static List<String> stops(JsonNode node) {
    if (node == null) {
      return List.of();
    }
    if (node.isTextual()) {
      return node.textValue().isEmpty() ? List.of() : List.of(node.textValue());
    }
    if (!node.isArray()) {
      throw RequestFields.wrongType("stop", "a string or an array of strings", node);
    }
    if (node.size() > MAX_STOPS) {
      throw new InvalidFieldException("stop", "must have at most " + MAX_STOPS + " strings");
    }
    List<String> stops = new ArrayList<>(node.size());
    for (JsonNode item : node) {
      String name = "stop[" + stops.size() + "]";
      String stop = RequestFields.string(item, name);
      if (stop.isEmpty()) {
        throw new InvalidFieldException(name, "must not be empty");
      }
      stops.add(stop);
    }
    return stops;
  }

  private static Map<String, Object> templateArguments(RequestFields fields) {
    JsonNode node = fields.get("chat_template_kwargs");
    if (node == null) {
      return Map.of();
    }
    Map<String, Object> arguments = new HashMap<>();
    RequestFields.of(node, "chat_template_kwargs")
        .object()
        .properties()
        .forEach(
            entry -> {
              String name = "chat_template_kwargs." + entry.getKey();
              JsonNode value = entry.getValue();
              Object plain =
                  switch (value.getNodeType()) {
                    case STRING -> value.textValue();
                    case BOOLEAN -> value.booleanValue();
                    case NUMBER -> value.numberValue();
                    default ->
                        throw RequestFields.wrongType(name, "a string, number or boolean", value);
                  };
              if (!ChatTemplate.takes(entry.getKey(), plain)) {
                throw new InvalidFieldException(name, "cannot be changed");
              }
              arguments.put(entry.getKey(), plain);
            });
    return arguments;
  }
}
