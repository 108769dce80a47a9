package io.infinilora.wire.frames;

import io.netty.buffer.ByteBuf;

/** Gets the frames of a connection, in order, on its event loop. Must not block. */
public interface FrameListener {

  /**
   * A header has come; called before memory is set aside for its payload.
   *
   * @throws FrameException if the frame, or its size, must not be; ends the connection
   */
  void check(FrameHeader header);

  /**
   * A frame is complete.
   *
   * @param payload direct memory; must be released by the listener, sooner or later
   * @throws FrameException if its contents must not be; ends the connection
   */
  void frame(FrameHeader header, ByteBuf payload);

  /**
   * The connection has ended, in whatever way; nothing comes any more.
   *
   * @param cause what is wrong, or null if the other side has closed it
   */
  void closed(Throwable cause);
}
