package io.infinilora.weights;

import java.util.LinkedHashSet;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;

/**
 * Token ids with a meaning.
 *
 * @param bos beginning of a sequence, or -1
 * @param eos ends of a generation
 */
record SpecialTokens(int bos, List<Integer> eos) {

  /**
   * From a Hugging Face configuration. The end tokens of {@code generation_config.json} come first,
   * those of {@code config.json} are added: chat models often name the end of a turn in one of them
   * only.
   */
  static SpecialTokens from(JsonFields config, Optional<JsonFields> generation) {
    List<Integer> bos = config.integers("bos_token_id");
    LinkedHashSet<Integer> eos = new LinkedHashSet<>();
    generation.ifPresent(g -> eos.addAll(g.integers("eos_token_id")));
    eos.addAll(config.integers("eos_token_id"));
    for (int id : eos) {
      if (id < 0) {
        throw config.bad("eos_token_id", "or generation_config.json has the negative id " + id);
      }
    }
    return new SpecialTokens(bos.isEmpty() ? -1 : bos.getFirst(), List.copyOf(eos));
  }

  /** From GGUF metadata: end of sequence, of turn and of message. */
  static SpecialTokens from(GgufMetadata metadata) {
    LinkedHashSet<Integer> eos = new LinkedHashSet<>();
    for (String kind : List.of("eos", "eot", "eom")) {
      id(metadata, "tokenizer.ggml." + kind + "_token_id").ifPresent(eos::add);
    }
    return new SpecialTokens(
        id(metadata, "tokenizer.ggml.bos_token_id").orElse(-1), List.copyOf(eos));
  }

  private static OptionalInt id(GgufMetadata metadata, String key) {
    OptionalInt id = metadata.optionalInteger(key);
    if (id.isPresent() && id.getAsInt() < 0) {
      throw metadata.bad(key, "is negative");
    }
    return id;
  }
}
