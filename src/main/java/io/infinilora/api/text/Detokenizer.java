package io.infinilora.api.text;

import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharsetDecoder;
import java.nio.charset.CoderResult;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;

/**
 * Turns a stream of tokens into a stream of text. Tokens of byte-level vocabularies may end in the
 * middle of a character: such bytes are held back until the character is complete. Special tokens
 * are skipped. The cost of a token is proportional to its own bytes. Not thread-safe.
 */
public final class Detokenizer {
  /** Bytes of an unfinished UTF-8 character. */
  private static final int MAX_PENDING = 3;

  private final Tokenizer tokenizer;
  private final CharsetDecoder utf8 =
      StandardCharsets.UTF_8
          .newDecoder()
          .onMalformedInput(CodingErrorAction.REPLACE)
          .onUnmappableCharacter(CodingErrorAction.REPLACE);
  private ByteBuffer pending = ByteBuffer.allocate(64).limit(0);
  private CharBuffer decoded = CharBuffer.allocate(64);

  /** A detokeniser at the beginning of a text. */
  public Detokenizer(Tokenizer tokenizer) {
    this.tokenizer = tokenizer;
  }

  /** The text that this token completes; possibly empty, never ending in half a character. */
  public String append(int token) {
    return tokenizer.special(token) ? "" : decode(tokenizer.bytes(token), false);
  }

  /** The end of the text: U+FFFD if a character stayed incomplete, else nothing. */
  public String finish() {
    return decode(new byte[0], true);
  }

  private String decode(byte[] bytes, boolean end) {
    reserve(bytes.length);
    pending.compact().put(bytes).flip();
    decoded.clear();
    CoderResult result = utf8.decode(pending, decoded, end);
    if (end && result.isUnderflow()) {
      result = utf8.flush(decoded);
    }
    if (result.isOverflow()) {
      throw new IllegalStateException("a byte of UTF-8 cannot decode to more than a char");
    }
    return decoded.flip().toString();
  }

  private void reserve(int more) {
    int needed = more + MAX_PENDING;
    if (pending.capacity() < needed) {
      ByteBuffer larger = ByteBuffer.allocate(Math.max(needed, 2 * pending.capacity()));
      pending = larger.put(pending).flip();
      decoded = CharBuffer.allocate(larger.capacity());
    }
  }
}
