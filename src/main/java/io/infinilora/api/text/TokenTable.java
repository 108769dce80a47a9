package io.infinilora.api.text;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.JsonProblem;
import java.nio.charset.StandardCharsets;
import java.util.BitSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.function.Function;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * What each token of a tokenizer.json stands for, in bytes. Understands byte-level vocabularies and
 * those that write a space as U+2581 with byte fallback (SentencePiece).
 */
final class TokenTable {
  private static final Pattern BYTE_TOKEN = Pattern.compile("<0x([0-9A-Fa-f]{2})>");
  private static final Set<String> SPACE_DECODERS = Set.of("Metaspace", "ByteFallback", "Replace");
  private static final byte[] NONE = {};

  private final byte[][] bytes;
  private final BitSet special = new BitSet();
  private final Map<String, Integer> ids = new HashMap<>();

  /**
   * Reads the vocabulary.
   *
   * @param source named in errors
   * @throws InfiniLoraException {@code BAD_MODEL_FILE} if the text is not a tokenizer.json or its
   *     decoder is of another kind
   */
  TokenTable(String json, String source) {
    JsonNode root = parse(json, source);
    Function<String, byte[]> spelling = spelling(root.path("decoder"), source);
    JsonNode vocab = root.path("model").path("vocab");
    if (vocab.isObject()) {
      vocab.properties().forEach(e -> ids.put(e.getKey(), e.getValue().intValue()));
    } else if (vocab.isArray()) {
      for (int id = 0; id < vocab.size(); id++) {
        ids.put(vocab.get(id).path(0).asText(), id);
      }
    } else {
      throw bad(source, "model.vocab is missing");
    }
    Map<Integer, String> added = new HashMap<>();
    for (JsonNode token : root.path("added_tokens")) {
      int id = token.path("id").asInt(-1);
      String content = token.path("content").asText();
      if (id < 0) {
        throw bad(source, "added token '" + content + "' has no id");
      }
      added.put(id, content);
      ids.put(content, id);
      special.set(id, token.path("special").asBoolean());
    }
    int size = 0;
    for (int id : ids.values()) {
      if (id < 0) {
        throw bad(source, "negative token id " + id);
      }
      size = Math.max(size, id + 1);
    }
    bytes = new byte[size][];
    ids.forEach((token, id) -> bytes[id] = spelling.apply(token));
    added.forEach((id, content) -> bytes[id] = content.getBytes(StandardCharsets.UTF_8));
  }

  byte[] bytes(int token) {
    return token < 0 || token >= bytes.length || bytes[token] == null ? NONE : bytes[token];
  }

  boolean special(int token) {
    return token >= 0 && special.get(token);
  }

  Integer id(String token) {
    return ids.get(token);
  }

  int size() {
    return bytes.length;
  }

  private static JsonNode parse(String json, String source) {
    try {
      return new ObjectMapper().readTree(json);
    } catch (JsonProcessingException e) {
      throw new InfiniLoraException(
          ErrorCode.BAD_MODEL_FILE,
          source + ": not JSON: " + JsonProblem.of(e.getOriginalMessage()),
          e);
    }
  }

  private static Function<String, byte[]> spelling(JsonNode decoder, String source) {
    List<String> kinds =
        decoder.path("type").asText().equals("Sequence")
            ? decoder.path("decoders").findValuesAsText("type")
            : List.of(decoder.path("type").asText());
    if (kinds.contains("ByteLevel")) {
      return ByteAlphabet::bytes;
    }
    if (kinds.stream().anyMatch(SPACE_DECODERS::contains)) {
      return TokenTable::spaced;
    }
    throw bad(source, "decoder " + kinds + " is not supported; ByteLevel and Metaspace are");
  }

  private static byte[] spaced(String token) {
    Matcher single = BYTE_TOKEN.matcher(token);
    if (single.matches()) {
      return new byte[] {(byte) Integer.parseInt(single.group(1), 16)};
    }
    return token.replace('\u2581', ' ').getBytes(StandardCharsets.UTF_8);
  }

  private static InfiniLoraException bad(String source, String message) {
    return new InfiniLoraException(ErrorCode.BAD_MODEL_FILE, source + ": " + message);
  }
}
