package io.infinilora.api;

import io.infinilora.api.ApiRequest.Kind;
import io.infinilora.api.text.ChatTemplate;
import io.infinilora.api.text.Tokenizer;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.vertx.core.Context;
import io.vertx.core.Future;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Templates and tokenises the prompts of a request and fits their output into the context. */
final class PromptEncoder {
  /**
   * Prompts of more characters than this are encoded on a worker thread, so that the event loop
   * stays free; measured were 1 us per character. Chats always are: a template takes 0.6 ms.
   */
  static final int INLINE_CHARS = 500;

  /** OpenAI's default of {@code max_tokens} for completions. */
  private static final int DEFAULT_TEXT_TOKENS = 16;

  private final ServedModel served;
  private final ApiRequest request;

  PromptEncoder(ServedModel served, ApiRequest request) {
    this.served = served;
    this.request = request;
  }

  /**
   * Encodes on the calling event loop or, if there is much to do, on a worker.
   *
   * @return completes on {@code context}; fails with {@code INVALID_REQUEST} or {@code
   *     CONTEXT_LENGTH_EXCEEDED}
   */
  Future<List<EncodedPrompt>> encode(Context context) {
    return request.kind() == Kind.CHAT || chars() > INLINE_CHARS
        ? context.executeBlocking(this::encodeNow, false)
        : Future.succeededFuture(encodeNow());
  }

  private long chars() {
    long chars = 0;
    for (PromptInput prompt : request.prompts()) {
      chars += prompt instanceof PromptInput.Text t ? t.text().length() : 0;
    }
    return chars;
  }

  private List<EncodedPrompt> encodeNow() {
    if (request.kind() == Kind.CHAT) {
      return List.of(fit(chat(), null));
    }
    List<EncodedPrompt> encoded = new ArrayList<>(request.prompts().size());
    for (PromptInput prompt : request.prompts()) {
      encoded.add(
          switch (prompt) {
            case PromptInput.Text t ->
                fit(tokenizer().encode(t.text(), true), request.echo() ? t.text() : null);
            case PromptInput.Tokens t ->
                fit(t.tokens(), request.echo() ? tokenizer().decode(t.tokens()) : null);
          });
    }
    return encoded;
  }

  private int[] chat() {
    ChatTemplate template =
        served
            .chatTemplate()
            .orElseThrow(
                () ->
                    new InfiniLoraException(
                        ErrorCode.INVALID_REQUEST,
                        "Model %s has no chat template; use /v1/completions"
                            .formatted(served.id())));
    String text = template.render(request.messages(), true, request.templateArguments());
    // The template spells out the special tokens that open a text.
    return tokenizer().encode(text, false);
  }

  private EncodedPrompt fit(int[] tokens, String echo) {
    if (tokens.length == 0) {
      throw new InvalidFieldException("prompt", "has no tokens");
    }
    int context = served.engine().contextLength();
    int room = context - tokens.length;
    Optional<Integer> wanted = request.maxTokens();
    if (room < 1 || wanted.orElse(1) > room) {
      throw new InfiniLoraException(
          ErrorCode.CONTEXT_LENGTH_EXCEEDED,
          "The context has %d tokens, but the prompt has %d and the output needs %s"
              .formatted(
                  context, tokens.length, wanted.map(w -> "up to " + w).orElse("at least 1")));
    }
    int preset = request.kind() == Kind.CHAT ? room : Math.min(DEFAULT_TEXT_TOKENS, room);
    return new EncodedPrompt(tokens, wanted.orElse(preset), echo);
  }

  private Tokenizer tokenizer() {
    return served
        .tokenizer()
        .orElseThrow(
            () ->
                new InfiniLoraException(
                    ErrorCode.INVALID_REQUEST,
                    "Model %s has no tokenizer: prompts must be token ids, without echo"
                        .formatted(served.id())));
  }
}
