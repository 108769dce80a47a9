package io.infinilora.api.text;

import java.nio.charset.StandardCharsets;
import java.util.Arrays;

/**
 * The alphabet of byte-level BPE (Radford et al., GPT-2): each byte is written as one printable
 * character. Bytes that are printable in Latin-1 stand for themselves, the others for U+0100
 * upwards, in order.
 */
final class ByteAlphabet {
  private static final int[] BYTE_OF = new int[0x100 + 0x100];
  private static final char[] CHAR_OF = new char[0x100];

  static {
    Arrays.fill(BYTE_OF, -1);
    int next = 0x100;
    for (int b = 0; b < 0x100; b++) {
      boolean printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xFF && b != 0xAD);
      CHAR_OF[b] = (char) (printable ? b : next++);
      BYTE_OF[CHAR_OF[b]] = b;
    }
  }

  private ByteAlphabet() {}

  /** The character that stands for a byte (0 to 255). */
  static char charOf(int b) {
    return CHAR_OF[b];
  }

  /** The bytes of a token; a token with other characters stands for its own UTF-8. */
  static byte[] bytes(String token) {
    byte[] bytes = new byte[token.length()];
    for (int i = 0; i < bytes.length; i++) {
      char c = token.charAt(i);
      if (c >= BYTE_OF.length || BYTE_OF[c] < 0) {
        return token.getBytes(StandardCharsets.UTF_8);
      }
      bytes[i] = (byte) BYTE_OF[c];
    }
    return bytes;
  }
}
