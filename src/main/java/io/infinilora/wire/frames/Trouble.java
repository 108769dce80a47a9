package io.infinilora.wire.frames;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;

/**
 * Why a session is refused or a step was given up. On the wire: the name of the code and the
 * message, each a text: its number of bytes (int32) and UTF-8.
 *
 * @param code what kind of failure
 * @param message for people
 */
public record Trouble(ErrorCode code, String message) {
  /** Longest payload that is looked at. */
  public static final int MOST_BYTES = 4096;

  private static final int MOST_CHARS = 1000; // At most 3 bytes each.

  /** What a failure says. */
  public static Trouble of(Throwable cause) {
    String text = cause instanceof InfiniLoraException ? cause.getMessage() : cause.toString();
    return new Trouble(
        cause instanceof InfiniLoraException e ? e.code() : ErrorCode.INTERNAL,
        text.substring(0, Math.min(text.length(), MOST_CHARS)));
  }

  /** The whole frame. */
  public ByteBuf frame(FrameConnection connection, FrameType type, int epoch, long step) {
    int bytes = 8 + ByteBufUtil.utf8Bytes(code.name()) + ByteBufUtil.utf8Bytes(message);
    ByteBuf out = connection.frame(FrameHeader.of(type, epoch, step, 0, bytes));
    Texts.write(out, code.name());
    Texts.write(out, message);
    return out;
  }

  /**
   * Reads a payload.
   *
   * @throws FrameException if it is none
   */
  public static Trouble read(ByteBuf in) {
    if (in.readableBytes() < 8) {
      throw new FrameException("trouble in " + in.readableBytes() + " bytes");
    }
    String code = Texts.read(in);
    for (ErrorCode known : ErrorCode.values()) {
      if (known.name().equals(code) && in.readableBytes() >= 4) {
        return new Trouble(known, Texts.read(in));
      }
    }
    throw new FrameException("trouble with a code of " + code.length() + " characters");
  }

  /** As an exception. */
  public InfiniLoraException exception() {
    return new InfiniLoraException(code, message);
  }
}
