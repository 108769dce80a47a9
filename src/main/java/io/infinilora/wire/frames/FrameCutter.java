package io.infinilora.wire.frames;

import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;

/**
 * Cuts what arrives into frames. A payload that came as a whole is passed on where it lies; one
 * that came in parts is put together once, in memory of its size.
 */
final class FrameCutter extends ChannelInboundHandlerAdapter {
  private final FrameListener listener;
  private ByteBuf head;
  private FrameHeader header;
  private ByteBuf payload;
  private boolean over;

  FrameCutter(FrameListener listener) {
    this.listener = listener;
  }

  @Override
  public void handlerAdded(ChannelHandlerContext context) {
    head = context.alloc().directBuffer(FrameHeader.BYTES, FrameHeader.BYTES);
  }

  @Override
  public void channelRead(ChannelHandlerContext context, Object message) {
    ByteBuf in = (ByteBuf) message;
    try {
      while (in.isReadable() && !over) {
        take(context, in);
      }
    } catch (RuntimeException e) {
      end(e);
      context.close();
    } finally {
      in.release();
    }
  }

  private void take(ChannelHandlerContext context, ByteBuf in) {
    if (header == null) {
      in.readBytes(head, Math.min(in.readableBytes(), head.writableBytes()));
      if (head.isWritable()) {
        return;
      }
      header = FrameHeader.read(head);
      head.clear();
      listener.check(header);
    }
    if (payload == null && in.readableBytes() >= header.bytes() && in.isDirect()) {
      pass(in.readRetainedSlice(header.bytes()));
      return;
    }
    if (payload == null) {
      payload = context.alloc().directBuffer(header.bytes(), header.bytes());
    }
    in.readBytes(payload, Math.min(in.readableBytes(), payload.writableBytes()));
    if (!payload.isWritable()) {
      ByteBuf whole = payload;
      payload = null;
      pass(whole);
    }
  }

  private void pass(ByteBuf whole) {
    FrameHeader complete = header;
    header = null;
    listener.frame(complete, whole);
  }

  @Override
  public void channelInactive(ChannelHandlerContext context) {
    end(header == null && !head.isReadable() ? null : new FrameException("it ended in a frame"));
    context.fireChannelInactive();
  }

  @Override
  public void exceptionCaught(ChannelHandlerContext context, Throwable cause) {
    end(cause);
    context.close();
  }

  @Override
  public void handlerRemoved(ChannelHandlerContext context) {
    end(null);
  }

  /** At most once: gives back what is held, and tells. */
  private void end(Throwable cause) {
    if (over) {
      return;
    }
    over = true;
    head.release();
    if (payload != null) {
      payload.release();
    }
    listener.closed(cause);
  }
}
