package io.infinilora.fake;

import io.infinilora.api.text.Tokenizer;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.OptionalInt;
import java.util.stream.IntStream;

/** A tokenizer whose tokens are the 256 bytes and one special token, {@link #SPECIAL}. */
public final class ByteTokenizer implements Tokenizer {
  /** Put in front of raw texts. */
  public static final int SPECIAL = 256;

  @Override
  public int[] encode(String text, boolean addSpecial) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    IntStream tokens = IntStream.range(0, bytes.length).map(i -> bytes[i] & 0xFF);
    return (addSpecial ? IntStream.concat(IntStream.of(SPECIAL), tokens) : tokens).toArray();
  }

  @Override
  public String decode(int[] tokens) {
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    for (int token : tokens) {
      if (!special(token)) {
        bytes.writeBytes(bytes(token));
      }
    }
    return bytes.toString(StandardCharsets.UTF_8);
  }

  @Override
  public byte[] bytes(int token) {
    return token < SPECIAL
        ? new byte[] {(byte) token}
        : token == SPECIAL ? "<s>".getBytes(StandardCharsets.UTF_8) : new byte[0];
  }

  @Override
  public boolean special(int token) {
    return token == SPECIAL;
  }

  @Override
  public OptionalInt id(String token) {
    return token.equals("<s>") ? OptionalInt.of(SPECIAL) : OptionalInt.empty();
  }

  @Override
  public int vocabSize() {
    return SPECIAL + 1;
  }
}
