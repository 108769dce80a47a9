package io.infinilora.wire.frames;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.vertx.core.internal.net.NetSocketInternal;
import io.vertx.core.net.NetSocket;
import java.lang.foreign.MemorySegment;

/** One connection between a base model and a shard. Sending is for any thread and never blocks. */
public final class FrameConnection {
  private final ChannelHandlerContext context;

  FrameConnection(ChannelHandlerContext context) {
    this.context = context;
  }

  /**
   * Takes a socket over.
   *
   * @param socket on whose event loop this is called, before anything was read from it
   */
  public static FrameConnection over(NetSocket socket, FrameListener listener) {
    ChannelHandlerContext context = ((NetSocketInternal) socket).channelHandlerContext();
    FrameConnection connection = new FrameConnection(context);
    // Below the handler of Vert.x, which would copy what arrives.
    context.pipeline().addBefore(context.name(), "frames", new FrameCutter(listener));
    return connection;
  }

  /**
   * A frame with its header written and room for its payload. Whoever asks for it sends or releases
   * it.
   */
  public ByteBuf frame(FrameHeader header) {
    int bytes = FrameHeader.BYTES + header.bytes();
    ByteBuf frame = context.alloc().directBuffer(bytes, bytes);
    header.write(frame);
    return frame;
  }

  /** The next {@code bytes} bytes of a frame that is being written, which then count as written. */
  public static MemorySegment room(ByteBuf frame, int bytes) {
    int from = frame.writerIndex();
    MemorySegment room = MemorySegment.ofBuffer(frame.internalNioBuffer(from, bytes));
    frame.writerIndex(from + bytes);
    return room;
  }

  /** The next {@code bytes} bytes of a payload that is being read. Until it is released. */
  public static MemorySegment part(ByteBuf payload, int bytes) {
    MemorySegment part = MemorySegment.ofBuffer(payload.nioBuffer(payload.readerIndex(), bytes));
    payload.skipBytes(bytes);
    return part;
  }

  /** Sends a complete frame, which is released in any case. */
  public void send(ByteBuf frame) {
    context.writeAndFlush(frame);
  }

  /** Sends a frame without payload. */
  public void send(FrameHeader header) {
    send(frame(header));
  }

  /** Sends a frame and ends the connection. */
  public void sendLast(ByteBuf frame) {
    context.writeAndFlush(frame).addListener(ChannelFutureListener.CLOSE);
  }

  /** Whether the other side takes what is sent about as fast as it is sent. */
  public boolean keepsUp() {
    return context.channel().isWritable();
  }

  /** Ends the connection; what was sent and has not left yet may be lost. */
  public void close() {
    context.close();
  }
}
