package io.infinilora.backend.cuda;

import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
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
   * @throws io.infinilora.core.InfiniLoraException BAD_MODEL_FILE if a quantised element is NaN
   */
  void write(int from, int to, MemorySegment into) {
    long rowBytes = (long) Short.BYTES * source.cols();
    long strideBytes = (long) Short.BYTES * stride;
    if (plain
        && rowBytes == strideBytes
        && source.rowOrder() == null
        && source.contiguous()
        && source.rowStride() == source.cols()) {
      long first = Short.BYTES * source.element(from);
      MemorySegment.copy(data, first, into, 0, (to - from) * rowBytes);
      return;
    }
    for (int row = from; row < to; row++) {
      long at = (row - from) * strideBytes;
      writeRow(row, into.asSlice(at, rowBytes));
      into.asSlice(at + rowBytes, strideBytes - rowBytes).fill((byte) 0);
    }
  }

  private void writeRow(int row, MemorySegment into) {
    if (!plain) {
      decoder.decode(row, decoded.address());
      MemorySegment.copy(decoded, ValueLayout.JAVA_FLOAT, 0, floats, 0, floats.length);
      refuseInfinity();
      round(floats, rounded);
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

  /** Blocks with large scales can stand for what no float holds. */
  private void refuseInfinity() {
    if (!source.dtype().quantised()) {
      return;
    }
    for (float value : floats) {
      if (Float.isInfinite(value)) {
        TensorView tensor = source.tensor();
        throw new InfiniLoraException(
            ErrorCode.BAD_MODEL_FILE,
            "%s: tensor %s holds Infinity".formatted(tensor.source(), tensor.name()));
      }
    }
  }

  /** To the nearest bf16 each; NaNs stay such. Plain loops, which the compiler vectorises. */
  private static void round(float[] from, short[] to) {
    for (int i = 0; i < from.length; i++) {
      int bits = Float.floatToRawIntBits(from[i]);
      int nearest = (bits + 0x7FFF + ((bits >>> 16) & 1)) >>> 16;
      boolean nan = (bits & 0x7FFFFFFF) > 0x7F800000;
      to[i] = (short) (nan ? (bits >>> 16) | 0x40 : nearest);
    }
  }

  @Override
  public void close() {
    if (arena != null) {
      arena.close();
    }
  }
}
