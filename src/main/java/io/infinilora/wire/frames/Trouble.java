package io.infinilora.wire.frames;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterLoadException;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;

/**
 * Why a session is refused or a step was given up. On the wire: the name of the code and the
 * message, each a text: its number of bytes (int32) and UTF-8. If an adapter could not be loaded,
 * its name and its digest follow.
 *
 * @param code what kind of failure
 * @param message for people
 * @param adapter which could not be loaded; null if that is not why
 */
public record Trouble(ErrorCode code, String message, AdapterId adapter) {
  /** Longest payload that is looked at. */
  public static final int MOST_BYTES = 8192;

  private static final int MOST_CHARS = 1000; // At most 3 bytes each.

  /** Trouble that is not about one adapter. */
  public Trouble(ErrorCode code, String message) {
    this(code, message, null);
  }

  /** What a failure says. */
  public static Trouble of(Throwable cause) {
    String text = cause instanceof InfiniLoraException ? cause.getMessage() : cause.toString();
    return new Trouble(
        cause instanceof InfiniLoraException e ? e.code() : ErrorCode.INTERNAL,
        text.substring(0, Math.min(text.length(), MOST_CHARS)),
        cause instanceof AdapterLoadException load
                && load.adapter().name().length() <= MOST_CHARS
                && load.adapter().digest().length() <= MOST_CHARS / 2
            ? load.adapter()
            : null);
  }

  /** The whole frame. */
  public ByteBuf frame(FrameConnection connection, FrameType type, int epoch, long step) {
    int bytes = 8 + ByteBufUtil.utf8Bytes(code.name()) + ByteBufUtil.utf8Bytes(message);
    if (adapter != null) {
      bytes += 8 + ByteBufUtil.utf8Bytes(adapter.name()) + ByteBufUtil.utf8Bytes(adapter.digest());
    }
    ByteBuf out = connection.frame(FrameHeader.of(type, epoch, step, 0, bytes));
    Texts.write(out, code.name());
    Texts.write(out, message);
    if (adapter != null) {
      Texts.write(out, adapter.name());
      Texts.write(out, adapter.digest());
    }
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
        return new Trouble(known, Texts.read(in), adapter(in));
      }
    }
    throw new FrameException("trouble with a code of " + code.length() + " characters");
  }

  private static AdapterId adapter(ByteBuf in) {
    if (!in.isReadable()) {
      return null;
    }
    String name = text(in);
    return new AdapterId(name, text(in));
  }

  private static String text(ByteBuf in) {
    if (in.readableBytes() < 4) {
      throw new FrameException("trouble that breaks off in an adapter");
    }
    return Texts.read(in);
  }

  /** As an exception. */
  public InfiniLoraException exception() {
    return adapter != null
        ? new AdapterLoadException(adapter, code, message, null)
        : new InfiniLoraException(code, message);
  }
}
