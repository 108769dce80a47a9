package io.infinilora.core;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * What a checkpoint brings for turning text into tokens and back. Either a {@code tokenizer.json}
 * or a byte-level BPE vocabulary; neither in checkpoints without a tokenizer, which then serve
 * token ids only.
 *
 * @param tokenizerJson Hugging Face tokenizer file
 * @param vocabulary vocabulary from GGUF metadata
 * @param chatTemplate Jinja template
 * @param bosToken text of the beginning-of-sequence token, or empty
 * @param eosToken text of the end-of-sequence token, or empty
 * @param addBos whether encoding a raw text puts the beginning-of-sequence token in front
 */
public record TextAssets(
    Optional<Path> tokenizerJson,
    Optional<BpeVocabulary> vocabulary,
    Optional<String> chatTemplate,
    String bosToken,
    String eosToken,
    boolean addBos) {

  /** A checkpoint without a tokenizer. */
  public static TextAssets none() {
    return new TextAssets(Optional.empty(), Optional.empty(), Optional.empty(), "", "", false);
  }

  /**
   * A byte-level BPE vocabulary as GGUF stores it.
   *
   * @param tokens text of each id, in the byte-level alphabet
   * @param types GGUF token types per id: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused,
   *     6 byte
   * @param merges pairs separated by one space, in order of priority
   * @param preTokenizer value of {@code tokenizer.ggml.pre}, e.g. {@code smollm}, {@code
   *     llama-bpe}, {@code qwen2}
   */
  public record BpeVocabulary(
      List<String> tokens, List<Integer> types, List<String> merges, String preTokenizer) {}
}
