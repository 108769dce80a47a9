package io.infinilora.api.text;

import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.List;
import java.util.stream.Stream;

/**
 * How a byte-level BPE vocabulary splits text before merging. GGUF files name the way ({@code
 * tokenizer.ggml.pre}) but do not describe it; this is the description in the terms of Hugging
 * Face's tokenizer.json.
 */
enum PreTokenizer {
  GPT2,
  /** Each digit on its own, then as GPT-2. */
  SMOLLM,
  LLAMA3,
  QWEN2,
  /** What llama.cpp does with files that name {@code default}. */
  DEFAULT;

  private static final String GPT2_WORDS =
      "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)";

  /** Values of {@code tokenizer.ggml.pre}. */
  private List<String> names() {
    return switch (this) {
      case GPT2 -> List.of("gpt-2", "phi-2", "jina-es", "jina-de", "mpt", "olmo", "jais");
      case SMOLLM -> List.of("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone");
      case LLAMA3 -> List.of("llama-bpe", "llama3", "llama-v3", "smaug-bpe", "dbrx");
      case QWEN2 -> List.of("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez");
      case DEFAULT -> List.of("default");
    };
  }

  /**
   * Regular expressions applied one after the other to the pieces so far, every match a piece of
   * its own.
   */
  private List<String> splits() {
    return switch (this) {
      case GPT2 -> List.of();
      case SMOLLM -> List.of("\\p{N}");
      case LLAMA3 -> List.of(words("\\p{N}{1,3}"));
      case QWEN2 -> List.of(words("\\p{N}"));
      case DEFAULT ->
          List.of("[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2_WORDS, "\\p{N}+", "[0-9][0-9][0-9]");
    };
  }

  /** The expression that came with cl100k, with its own idea of a number. */
  private static String words(String number) {
    return "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
        + number
        + "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
  }

  /**
   * The pre-tokenizer that a GGUF file names.
   *
   * @throws InfiniLoraException {@code BAD_MODEL_FILE} if the name is not known
   */
  static PreTokenizer named(String name) {
    return Stream.of(values())
        .filter(p -> p.names().contains(name))
        .findFirst()
        .orElseThrow(
            () ->
                new InfiniLoraException(
                    ErrorCode.BAD_MODEL_FILE,
                    "tokenizer.ggml.pre: pre-tokenizer '%s' is not known; known are %s"
                        .formatted(
                            name,
                            String.join(
                                ", ",
                                Stream.of(values()).flatMap(p -> p.names().stream()).toList()))));
  }

  /** Whether a piece that is a token as a whole is taken without merging. */
  boolean ignoreMerges() {
    return this == LLAMA3;
  }

  /** Whether texts are normalised to Unicode NFC first. */
  boolean normalises() {
    return this == QWEN2;
  }

  /** The {@code pre_tokenizer} element of tokenizer.json. */
  ObjectNode toJson() {
    ObjectNode sequence = JsonNodeFactory.instance.objectNode().put("type", "Sequence");
    ArrayNode steps = sequence.putArray("pretokenizers");
    for (String split : splits()) {
      ObjectNode step = steps.addObject().put("type", "Split");
      step.putObject("pattern").put("Regex", split);
      step.put("behavior", "Isolated").put("invert", false);
    }
    steps
        .addObject()
        .put("type", "ByteLevel")
        .put("add_prefix_space", false)
        .put("trim_offsets", true)
        .put("use_regex", this == GPT2 || this == SMOLLM);
    return sequence;
  }
}
