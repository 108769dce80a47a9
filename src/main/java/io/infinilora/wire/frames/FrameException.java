package io.infinilora.wire.frames;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;

/** The other side does not keep to the protocol; the connection has to end. */
public final class FrameException extends InfiniLoraException {
  private static final long serialVersionUID = 1L;

  /** With what is wrong about the frame. */
  public FrameException(String message) {
    super(ErrorCode.INTERNAL, message);
  }
}
