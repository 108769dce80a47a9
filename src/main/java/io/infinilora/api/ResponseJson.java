package io.infinilora.api;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.api.ApiRequest.Kind;
import io.infinilora.api.text.Tokenizer;
import io.infinilora.core.FinishReason;
import io.infinilora.core.TokenLogprobs;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import java.util.Optional;

/** The JSON shapes of answers, as OpenAI's API has them: whole and in chunks, text and chat. */
final class ResponseJson {
  private final ApiRequest request;
  private final String id;
  private final long created;
  private final Optional<Tokenizer> tokenizer;

  /**
   * The shapes for one request.
   *
   * @param id of the answer
   * @param created seconds since the epoch
   */
  ResponseJson(ApiRequest request, String id, long created, Optional<Tokenizer> tokenizer) {
    this.request = request;
    this.id = id;
    this.created = created;
    this.tokenizer = tokenizer;
  }

  /** A whole answer without choices. */
  ObjectNode whole() {
    return envelope(chat() ? "chat.completion" : "text_completion");
  }

  /** A chunk of a stream without choices. */
  ObjectNode chunk() {
    return envelope(chat() ? "chat.completion.chunk" : "text_completion");
  }

  /** Adds a finished choice to a whole answer. */
  void addWhole(ObjectNode answer, int index, Piece piece) {
    ObjectNode choice = addChoice(answer, index);
    if (chat()) {
      choice.putObject("message").put("role", "assistant").put("content", piece.text());
    } else {
      choice.put("text", piece.text());
    }
    complete(choice, piece);
  }

  /** A chunk that opens the message of a chat choice. */
  ObjectNode roleChunk(int index) {
    ObjectNode chunk = chunk();
    ObjectNode choice = addChoice(chunk, index);
    choice.putObject("delta").put("role", "assistant").put("content", "");
    choice.putNull("logprobs").putNull("finish_reason");
    return chunk;
  }

  /** A chunk with the next piece of a choice. */
  ObjectNode pieceChunk(int index, Piece piece) {
    ObjectNode chunk = chunk();
    ObjectNode choice = addChoice(chunk, index);
    if (chat()) {
      ObjectNode delta = choice.putObject("delta");
      if (!piece.text().isEmpty()) {
        delta.put("content", piece.text());
      }
    } else {
      choice.put("text", piece.text());
    }
    complete(choice, piece);
    return chunk;
  }

  /** Adds the usage. */
  static ObjectNode usage(ObjectNode answer, Usage usage) {
    ObjectNode node = answer.putObject("usage");
    node.put("prompt_tokens", usage.prompt());
    node.put("completion_tokens", usage.completion());
    node.put("total_tokens", usage.prompt() + usage.completion());
    node.putObject("prompt_tokens_details").put("cached_tokens", usage.cached());
    return answer;
  }

  /** Whether a chunk with this piece would tell the client anything. */
  boolean tells(Piece piece) {
    boolean tokens = !piece.tokens().isEmpty() && (request.logprobs() || listsIds());
    return tokens || !piece.text().isEmpty() || piece.finish() != null;
  }

  private boolean listsIds() {
    return request.returnTokenIds() || tokenizer.isEmpty();
  }

  private boolean chat() {
    return request.kind() == Kind.CHAT;
  }

  private ObjectNode envelope(String object) {
    ObjectNode root = JsonNodeFactory.instance.objectNode();
    root.put("id", id).put("object", object).put("created", created).put("model", request.model());
    root.putArray("choices");
    return root;
  }

  private static ObjectNode addChoice(ObjectNode answer, int index) {
    return ((ArrayNode) answer.get("choices")).addObject().put("index", index);
  }

  private void complete(ObjectNode choice, Piece piece) {
    if (request.logprobs() && !piece.tokens().isEmpty()) {
      choice.set("logprobs", chat() ? chatLogprobs(piece.tokens()) : textLogprobs(piece.tokens()));
    } else {
      choice.putNull("logprobs");
    }
    FinishReason finish = piece.finish();
    choice.put("finish_reason", finish == null ? null : finish.name().toLowerCase(Locale.ROOT));
    if (listsIds()) {
      ArrayNode ids = choice.putArray("token_ids");
      piece.tokens().forEach(t -> ids.add(t.token()));
    }
  }

  private ObjectNode chatLogprobs(List<TokenEntry> tokens) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    ArrayNode content = node.putArray("content");
    for (TokenEntry entry : tokens) {
      ObjectNode item = content.addObject();
      TokenLogprobs l = entry.logprobs();
      token(item, entry.token(), l.logprob());
      ArrayNode top = item.putArray("top_logprobs");
      for (int i = 0; i < l.topTokens().length; i++) {
        token(top.addObject(), l.topTokens()[i], l.topLogprobs()[i]);
      }
    }
    node.putNull("refusal");
    return node;
  }

  private void token(ObjectNode item, int token, float logprob) {
    byte[] bytes = bytes(token);
    item.put("token", text(bytes));
    item.put("logprob", finite(logprob));
    ArrayNode array = item.putArray("bytes");
    for (byte b : bytes) {
      array.add(b & 0xFF);
    }
  }

  private ObjectNode textLogprobs(List<TokenEntry> entries) {
    ObjectNode node = JsonNodeFactory.instance.objectNode();
    ArrayNode tokens = node.putArray("tokens");
    ArrayNode logprobs = node.putArray("token_logprobs");
    ArrayNode top = node.putArray("top_logprobs");
    ArrayNode offsets = node.putArray("text_offset");
    for (TokenEntry entry : entries) {
      String text = text(bytes(entry.token()));
      TokenLogprobs l = entry.logprobs();
      tokens.add(text);
      offsets.add(entry.offset());
      if (l == null) {
        logprobs.addNull();
        top.addNull();
        continue;
      }
      logprobs.add(finite(l.logprob()));
      ObjectNode alternatives = top.addObject();
      for (int i = 0; i < l.topTokens().length; i++) {
        // Different tokens can look alike (parts of characters); the most probable one is kept.
        String name = text(bytes(l.topTokens()[i]));
        if (!alternatives.has(name)) {
          alternatives.put(name, finite(l.topLogprobs()[i]));
        }
      }
      if (!alternatives.has(text)) {
        alternatives.put(text, finite(l.logprob()));
      }
    }
    return node;
  }

  private byte[] bytes(int token) {
    return tokenizer
        .map(t -> t.bytes(token))
        .orElseGet(() -> ("token_id:" + token).getBytes(StandardCharsets.UTF_8));
  }

  private static String text(byte[] bytes) {
    return new String(bytes, StandardCharsets.UTF_8);
  }

  /** JSON has no infinities; OpenAI's API uses -9999 for a token without probability. */
  private static float finite(float logprob) {
    return Float.isFinite(logprob) ? logprob : -9999f;
  }
}
