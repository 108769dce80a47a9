package io.infinilora.wire.frames;

import io.netty.buffer.ByteBuf;
import java.nio.charset.StandardCharsets;

/** Text in payloads: its bytes in UTF-8 behind their number. */
final class Texts {
  private Texts() {}

  static void write(ByteBuf out, String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    out.writeIntLE(bytes.length);
    out.writeBytes(bytes);
  }

  static String read(ByteBuf in) {
    int length = in.readIntLE();
    if (length < 0 || length > in.readableBytes()) {
      throw new FrameException(
          "a text of %d bytes in the last %d of a payload".formatted(length, in.readableBytes()));
    }
    byte[] bytes = new byte[length];
    in.readBytes(bytes);
    return new String(bytes, StandardCharsets.UTF_8);
  }
}
