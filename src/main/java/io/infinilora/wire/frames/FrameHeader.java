package io.infinilora.wire.frames;

import io.infinilora.core.LoraSite;
import io.netty.buffer.ByteBuf;

/**
 * What every frame begins with: {@value #BYTES} bytes, little endian, followed by the payload.
 *
 * <table>
 * <caption>Layout</caption>
 * <tr><th>offset</th><th>bytes</th><th>field</th></tr>
 * <tr><td>0</td><td>4</td><td>magic, "ILF1"</td></tr>
 * <tr><td>4</td><td>1</td><td>type, see {@link FrameType}</td></tr>
 * <tr><td>5</td><td>1</td><td>site, the ordinal of {@link LoraSite}; 0 where there is none</td></tr>
 * <tr><td>6</td><td>2</td><td>layer, unsigned; 0 where there is none</td></tr>
 * <tr><td>8</td><td>4</td><td>epoch of the exchange, from 0</td></tr>
 * <tr><td>12</td><td>4</td><td>rows of the step; 0 where there is none</td></tr>
 * <tr><td>16</td><td>8</td><td>step; 0 where there is none</td></tr>
 * <tr><td>24</td><td>4</td><td>bytes of the payload</td></tr>
 * <tr><td>28</td><td>4</td><td>0</td></tr>
 * </table>
 *
 * @param type what it is
 * @param epoch grows with each step that is given up; what belongs to an older one is dropped
 * @param step number of the step, ascending within a session
 * @param layer decoder layer
 * @param site site of the layer
 * @param rows compact rows of the step
 * @param bytes of the payload
 */
public record FrameHeader(
    FrameType type, int epoch, long step, int layer, LoraSite site, int rows, int bytes) {
  /** Bytes of a header. */
  public static final int BYTES = 32;

  private static final int MAGIC = 'I' | 'L' << 8 | 'F' << 16 | '1' << 24;

  /** A frame that belongs to no site. */
  public static FrameHeader of(FrameType type, int epoch, long step, int rows, int bytes) {
    return new FrameHeader(type, epoch, step, 0, LoraSite.ATTENTION_IN, rows, bytes);
  }

  void write(ByteBuf out) {
    out.writeIntLE(MAGIC);
    out.writeByte(type.number());
    out.writeByte(site.ordinal());
    out.writeShortLE(layer);
    out.writeIntLE(epoch);
    out.writeIntLE(rows);
    out.writeLongLE(step);
    out.writeIntLE(bytes);
    out.writeIntLE(0);
  }

  /**
   * Reads {@value #BYTES} bytes.
   *
   * @throws FrameException if they are no header
   */
  static FrameHeader read(ByteBuf in) {
    int magic = in.readIntLE();
    if (magic != MAGIC) {
      throw new FrameException("a frame begins with %08x".formatted(magic));
    }
    FrameType type = FrameType.of(in.readUnsignedByte());
    int site = in.readUnsignedByte();
    if (site >= LoraSite.all().size()) {
      throw new FrameException("there is no site " + site);
    }
    int layer = in.readUnsignedShortLE();
    int epoch = in.readIntLE();
    int rows = in.readIntLE();
    long step = in.readLongLE();
    int bytes = in.readIntLE();
    int zero = in.readIntLE();
    if (epoch < 0 || rows < 0 || step < 0 || bytes < 0 || zero != 0) {
      throw new FrameException(
          "a %s frame with epoch %d, %d rows, step %d, %d bytes, rest %d"
              .formatted(type, epoch, rows, step, bytes, zero));
    }
    return new FrameHeader(type, epoch, step, layer, LoraSite.all().get(site), rows, bytes);
  }
}
