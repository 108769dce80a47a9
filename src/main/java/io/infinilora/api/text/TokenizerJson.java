package io.infinilora.api.text;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TextAssets;
import io.infinilora.core.TextAssets.BpeVocabulary;
import java.util.List;

/** Writes the byte-level BPE vocabulary of a GGUF file as a Hugging Face tokenizer.json. */
final class TokenizerJson {
  private static final int CONTROL = 3;
  private static final int USER_DEFINED = 4;

  private TokenizerJson() {}

  /**
   * The tokenizer.json text.
   *
   * @throws InfiniLoraException {@code BAD_MODEL_FILE} if the pre-tokenizer is unknown, a token
   *     occurs twice, or the lists do not fit each other
   */
  static String of(BpeVocabulary vocabulary, TextAssets assets) {
    PreTokenizer pre = PreTokenizer.named(vocabulary.preTokenizer());
    List<String> tokens = vocabulary.tokens();
    if (vocabulary.types().size() != tokens.size()) {
      throw bad(
          "tokenizer.ggml.token_type has %d entries for %d tokens"
              .formatted(vocabulary.types().size(), tokens.size()));
    }
    ObjectNode root = JsonNodeFactory.instance.objectNode().put("version", "1.0");
    root.putNull("truncation").putNull("padding");
    root.set("added_tokens", addedTokens(vocabulary));
    if (pre.normalises()) {
      root.putObject("normalizer").put("type", "NFC");
    } else {
      root.putNull("normalizer");
    }
    root.set("pre_tokenizer", pre.toJson());
    if (assets.addBos() && !assets.bosToken().isEmpty()) {
      root.set("post_processor", prepend(assets.bosToken(), tokens));
    } else {
      root.putNull("post_processor");
    }
    root.putObject("decoder")
        .put("type", "ByteLevel")
        .put("add_prefix_space", false)
        .put("trim_offsets", true)
        .put("use_regex", false);
    ObjectNode model = root.putObject("model").put("type", "BPE");
    model.putNull("dropout").putNull("unk_token");
    model.putNull("continuing_subword_prefix").putNull("end_of_word_suffix");
    model.put("fuse_unk", false).put("byte_fallback", false);
    model.put("ignore_merges", pre.ignoreMerges());
    ObjectNode vocab = model.putObject("vocab");
    for (int id = 0; id < tokens.size(); id++) {
      if (vocab.has(tokens.get(id))) {
        throw bad(
            "tokenizer.ggml.tokens: '%s' is both token %d and token %d"
                .formatted(tokens.get(id), vocab.get(tokens.get(id)).asInt(), id));
      }
      vocab.put(tokens.get(id), id);
    }
    ArrayNode merges = model.putArray("merges");
    vocabulary.merges().forEach(merges::add);
    return root.toString();
  }

  private static ArrayNode addedTokens(BpeVocabulary vocabulary) {
    ArrayNode added = JsonNodeFactory.instance.arrayNode();
    for (int id = 0; id < vocabulary.tokens().size(); id++) {
      int type = vocabulary.types().get(id);
      if (type == CONTROL || type == USER_DEFINED) {
        added
            .addObject()
            .put("id", id)
            .put("content", vocabulary.tokens().get(id))
            .put("single_word", false)
            .put("lstrip", false)
            .put("rstrip", false)
            .put("normalized", false)
            .put("special", type == CONTROL);
      }
    }
    return added;
  }

  private static ObjectNode prepend(String bos, List<String> tokens) {
    int id = tokens.indexOf(bos);
    if (id < 0) {
      throw bad("the beginning-of-sequence token '%s' is not in the vocabulary".formatted(bos));
    }
    ObjectNode post = JsonNodeFactory.instance.objectNode().put("type", "TemplateProcessing");
    for (String sequence : List.of("A", "B")) {
      ArrayNode template = post.putArray(sequence.equals("A") ? "single" : "pair");
      template.addObject().putObject("SpecialToken").put("id", bos).put("type_id", 0);
      template.addObject().putObject("Sequence").put("id", "A").put("type_id", 0);
      if (sequence.equals("B")) {
        template.addObject().putObject("Sequence").put("id", "B").put("type_id", 1);
      }
    }
    ObjectNode special = post.putObject("special_tokens").putObject(bos).put("id", bos);
    special.putArray("ids").add(id);
    special.putArray("tokens").add(bos);
    return post;
  }

  private static InfiniLoraException bad(String message) {
    return new InfiniLoraException(ErrorCode.BAD_MODEL_FILE, message);
  }
}
