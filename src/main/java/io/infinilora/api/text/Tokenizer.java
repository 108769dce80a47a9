package io.infinilora.api.text;

import java.util.OptionalInt;

/**
 * Turns text into token ids and back. Implementations are immutable and may be used from any
 * thread.
 */
public interface Tokenizer {

  /**
   * Token ids of a text. Takes time in proportion to its length, so long texts are encoded off the
   * event loop. Added tokens that the text spells out (such as {@code <|im_end|>}) become their
   * ids.
   *
   * @param addSpecial whether the tokens that open and close a text are added (as the checkpoint
   *     defines them); false for rendered chat templates, which spell them out
   */
  int[] encode(String text, boolean addSpecial);

  /** Text of the ids, without special tokens; bytes that are not UTF-8 become U+FFFD. */
  String decode(int[] tokens);

  /**
   * The bytes that a token contributes to a text; for a special token, those of its name. Empty for
   * ids without a token.
   *
   * @return a shared array that must not be changed
   */
  byte[] bytes(int token);

  /** Whether a token is special: part of the prompt's structure and left out of decoded text. */
  boolean special(int token);

  /** The id of a token by its name in the vocabulary, such as {@code <|im_end|>}. */
  OptionalInt id(String token);

  /** One more than the largest id. */
  int vocabSize();
}
