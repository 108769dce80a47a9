package io.infinilora.weights;

import io.infinilora.core.TextAssets;
import io.infinilora.core.TextAssets.BpeVocabulary;
import java.util.Collections;
import java.util.List;
import java.util.Optional;

/** Vocabulary and chat template from the metadata of a GGUF file. */
final class GgufText {

  private static final String PREFIX = "tokenizer.ggml.";
  private static final int NORMAL = 1;

  private GgufText() {}

  /**
   * Reads what is there. Only byte-level BPE ({@code tokenizer.ggml.model} gpt2) gives a
   * vocabulary.
   */
  static TextAssets read(GgufMetadata metadata) {
    Optional<List<String>> tokens = metadata.texts(PREFIX + "tokens");
    String pre = metadata.text(PREFIX + "pre").orElse("default");
    Optional<BpeVocabulary> vocabulary = Optional.empty();
    if (metadata.text(PREFIX + "model").equals(Optional.of("gpt2"))) {
      vocabulary =
          Optional.of(
              vocabulary(
                  metadata,
                  tokens.orElseThrow(() -> metadata.bad(PREFIX + "tokens", "is missing")),
                  pre));
    }
    // Llama 3 texts begin with this token also where the file does not say so.
    boolean addBos = metadata.flag(PREFIX + "add_bos_token").orElse(pre.equals("llama-bpe"));
    return new TextAssets(
        Optional.empty(),
        vocabulary,
        metadata.text("tokenizer.chat_template"),
        special(metadata, tokens, "bos"),
        special(metadata, tokens, "eos"),
        addBos);
  }

  private static BpeVocabulary vocabulary(GgufMetadata metadata, List<String> tokens, String pre) {
    List<Integer> types =
        metadata
            .integers(PREFIX + "token_type")
            .orElseGet(() -> Collections.nCopies(tokens.size(), NORMAL));
    if (types.size() != tokens.size()) {
      throw metadata.bad(
          PREFIX + "token_type",
          "has " + types.size() + " entries for " + tokens.size() + " tokens");
    }
    List<String> merges =
        metadata
            .texts(PREFIX + "merges")
            .orElseThrow(() -> metadata.bad(PREFIX + "merges", "is missing"));
    return new BpeVocabulary(tokens, types, merges, pre);
  }

  private static String special(GgufMetadata metadata, Optional<List<String>> tokens, String kind) {
    String key = PREFIX + kind + "_token_id";
    if (!metadata.has(key) || tokens.isEmpty()) {
      return "";
    }
    int id = metadata.integer(key);
    if (id < 0 || id >= tokens.get().size()) {
      throw metadata.bad(key, "is " + id + ", but there are " + tokens.get().size() + " tokens");
    }
    return tokens.get().get(id);
  }
}
