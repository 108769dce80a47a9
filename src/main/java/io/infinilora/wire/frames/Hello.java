package io.infinilora.wire.frames;

import io.netty.buffer.ByteBuf;
import io.netty.buffer.ByteBufUtil;
import java.util.UUID;

/**
 * What a base model says first. On the wire: version (int32), incarnation (two int64, the more
 * significant first), rows (int32), then session, base and shapes, each a text: its number of bytes
 * (int32) and UTF-8.
 *
 * @param version of the protocol
 * @param incarnation of the shard that is meant
 * @param rows most rows of a step
 * @param session under which leases are held; ends with the connection
 * @param base name of the base-model instance
 * @param shapes of the model and the grid, see {@link ModelShapes}: to be the same on both sides
 */
public record Hello(
    int version, UUID incarnation, int rows, String session, String base, String shapes) {
  /** The protocol's version. */
  public static final int VERSION = 1;

  /** Longest payload that is looked at. */
  public static final int MOST_BYTES = 2048;

  private static final int FIXED_BYTES = 4 + 8 + 8 + 4 + 3 * 4;

  /** The whole frame. */
  public ByteBuf frame(FrameConnection connection) {
    int bytes =
        FIXED_BYTES
            + ByteBufUtil.utf8Bytes(session)
            + ByteBufUtil.utf8Bytes(base)
            + ByteBufUtil.utf8Bytes(shapes);
    ByteBuf out = connection.frame(FrameHeader.of(FrameType.HELLO, 0, 0, 0, bytes));
    out.writeIntLE(version);
    out.writeLongLE(incarnation.getMostSignificantBits());
    out.writeLongLE(incarnation.getLeastSignificantBits());
    out.writeIntLE(rows);
    Texts.write(out, session);
    Texts.write(out, base);
    Texts.write(out, shapes);
    return out;
  }

  /**
   * Reads a payload.
   *
   * @throws FrameException if it is none
   */
  public static Hello read(ByteBuf in) {
    if (in.readableBytes() < FIXED_BYTES) {
      throw new FrameException("a hello of " + in.readableBytes() + " bytes");
    }
    int version = in.readIntLE();
    UUID incarnation = new UUID(in.readLongLE(), in.readLongLE());
    int rows = in.readIntLE();
    if (version != VERSION) {
      return new Hello(version, incarnation, rows, "", "", ""); // The rest may be another's.
    }
    return new Hello(version, incarnation, rows, Texts.read(in), Texts.read(in), Texts.read(in));
  }
}
