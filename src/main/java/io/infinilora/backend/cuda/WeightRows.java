package io.infinilora.backend.cuda;

import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.DType;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/**
 * Rows of a matrix of any type as the device wants them: bf16, rounded to nearest (ties to even), a
 * row every {@code stride} elements, zeros between. Not thread-safe.
 */
final class WeightRows implements AutoCloseable {
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;

  /** Bits of the bf16. */
  private static final int INFINITY = 0x7F80;

  /** Rows and columns of a piece of a transposed matrix. */
  private static final int TILE = 64;

  private final WeightMatrix source;
  private final MemorySegment data;
  private final int stride;
  private final boolean plain;

  /** For types that are decoded to float32 first; null for bf16. */
  private final Arena arena;

  private final MemorySegment decoded;
  private final RowDecoder decoder;
  private final float[] floats;
  private final short[] rounded;

  WeightRows(WeightMatrix source, int stride) {
    if (stride < source.cols()) {
      throw new IllegalArgumentException("rows of " + source + " every " + stride + " elements");
    }
    this.source = source;
    this.stride = stride;
    data = source.tensor().data();
    plain = source.dtype() == DType.BF16;
    arena = plain ? null : Arena.ofConfined();
    decoded = plain ? null : arena.allocate((long) Float.BYTES * source.cols(), Float.BYTES);
    decoder = plain ? null : new RowDecoder(source);
    floats = plain ? null : new float[source.cols()];
    rounded = plain ? null : new short[source.cols()];
  }

  /**
   * Writes rows {@code from} (inclusive) to {@code to} (exclusive).
   *
   * @param into holds {@code to - from} times the stride
   * @throws InfiniLoraException BAD_MODEL_FILE if an element of a type other than bf16 is not
   *     finite or too large for bf16, or if the file cannot be read any more
   */
  void write(int from, int to, MemorySegment into) {
    try {
      writeRows(from, to, into);
    } catch (InternalError e) {
      throw source.tensor().unreadable(e);
    }
  }

  private void writeRows(int from, int to, MemorySegment into) {
    long rowBytes = (long) Short.BYTES * source.cols();
    long strideBytes = (long) Short.BYTES * stride;
    if (plain
        && rowBytes == strideBytes
        && source.rowOrder() == null
        && source.contiguous()
        && source.rowStride() == source.cols()) {
      source
          .tensor()
          .read(Short.BYTES * source.element(from), into.asSlice(0, (to - from) * rowBytes));
      return;
    }
    if (plain && source.rowStride() < source.colStride()) {
      for (int row = from; row < to; row += TILE) {
        writeTransposed(row, Math.min(TILE, to - row), into.asSlice((row - from) * strideBytes));
      }
      return;
    }
    for (int row = from; row < to; row++) {
      long at = (row - from) * strideBytes;
      writeRow(row, into.asSlice(at, rowBytes));
      into.asSlice(at + rowBytes, strideBytes - rowBytes).fill((byte) 0);
    }
  }

  /**
   * Neighbours in the file are in different rows: tiles let both sides be read and written in runs.
   */
  private void writeTransposed(int from, int rows, MemorySegment into) {
    long strideBytes = (long) Short.BYTES * stride;
    int cols = source.cols();
    short[] tile = new short[TILE * TILE];
    for (int col = 0; col < cols; col += TILE) {
      int width = Math.min(TILE, cols - col);
      for (int k = 0; k < width; k++) {
        long step = (col + k) * source.colStride();
        for (int r = 0; r < rows; r++) {
          tile[r * TILE + k] = data.get(SHORT, Short.BYTES * (source.element(from + r) + step));
        }
      }
      for (int r = 0; r < rows; r++) {
        long at = r * strideBytes + (long) Short.BYTES * col;
        MemorySegment.copy(tile, r * TILE, into, SHORT, at, width);
      }
    }
    long rowBytes = (long) Short.BYTES * cols;
    for (int r = 0; r < rows; r++) {
      into.asSlice(r * strideBytes + rowBytes, strideBytes - rowBytes).fill((byte) 0);
    }
  }

  private void writeRow(int row, MemorySegment into) {
    if (!plain) {
      decoder.decode(row, decoded.address());
      MemorySegment.copy(decoded, ValueLayout.JAVA_FLOAT, 0, floats, 0, floats.length);
      if (round(floats, rounded) >= INFINITY) {
        throw tooLarge();
      }
      MemorySegment.copy(rounded, 0, into, SHORT, 0, rounded.length);
      return;
    }
    long first = source.element(row);
    if (source.contiguous()) {
      MemorySegment.copy(data, Short.BYTES * first, into, 0, into.byteSize());
      return;
    }
    long step = source.colStride();
    for (int i = 0; i < source.cols(); i++) {
      into.set(SHORT, (long) Short.BYTES * i, data.get(SHORT, Short.BYTES * (first + i * step)));
    }
  }

  /**
   * To the nearest bf16 each. Plain loops, which the compiler vectorises.
   *
   * @param from finite
   * @return the largest magnitude's bits
   */
  private static int round(float[] from, short[] to) {
    int largest = 0;
    for (int i = 0; i < from.length; i++) {
      int bits = Float.floatToRawIntBits(from[i]);
      int nearest = (bits + 0x7FFF + ((bits >>> 16) & 1)) >>> 16;
      to[i] = (short) nearest;
      largest = Math.max(largest, nearest & 0x7FFF);
    }
    return largest;
  }

  /** The decoder has refused what is not finite: only rounding can have made an infinity. */
  private InfiniLoraException tooLarge() {
    float most = 0;
    for (float value : floats) {
      most = Math.max(most, Math.abs(value));
    }
    return decoder.bad("holds " + most + ", which is too large for bf16");
  }

  @Override
  public void close() {
    if (arena != null) {
      arena.close();
    }
  }
}
