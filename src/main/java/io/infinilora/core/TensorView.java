package io.infinilora.core;

import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.Objects;

/**
 * A tensor as it lies in a memory-mapped file, never a copy; the file can also be read. Row-major,
 * little-endian, outermost dimension first ({@code [out, in]} for a linear layer, {@code [experts,
 * out, in]} for fused experts).
 *
 * @param name the name in the file, for error messages
 * @param dtype element type
 * @param shape sizes, outermost first
 * @param data exactly the tensor's bytes
 * @param source the file, for error messages
 * @param file reads the same bytes from the file; null if they are in memory anyway
 */
public record TensorView(
    String name, DType dtype, long[] shape, MemorySegment data, String source, ByteSource file) {

  /** A tensor in memory. */
  public TensorView(String name, DType dtype, long[] shape, MemorySegment data, String source) {
    this(name, dtype, shape, data, source, null);
  }

  /** Checks that the bytes are exactly those that the shape needs. */
  public TensorView {
    Objects.requireNonNull(name);
    Objects.requireNonNull(dtype);
    shape = shape.clone();
    long expected = dtype.bytes(elements(shape));
    if (data.byteSize() != expected) {
      throw new InfiniLoraException(
          ErrorCode.BAD_MODEL_FILE,
          "%s: tensor %s has %d bytes, but %s %s needs %d"
              .formatted(source, name, data.byteSize(), dtype, Arrays.toString(shape), expected));
    }
  }

  private static long elements(long[] shape) {
    long n = 1;
    for (long s : shape) {
      n = Math.multiplyExact(n, s);
    }
    return n;
  }

  /** Sizes, outermost first (a copy). */
  @Override
  public long[] shape() {
    return shape.clone();
  }

  /** Number of elements. */
  public long elements() {
    return elements(shape);
  }

  /** Product of all dimensions but the last; 1 for a vector. */
  public int rows() {
    long n = 1;
    for (int i = 0; i < shape.length - 1; i++) {
      n *= shape[i];
    }
    return Math.toIntExact(n);
  }

  /** The last dimension. */
  public int cols() {
    return Math.toIntExact(shape[shape.length - 1]);
  }

  /** Bytes of one row. */
  public long rowBytes() {
    return dtype.bytes(cols());
  }

  /**
   * Rows {@code from} (inclusive) to {@code to} (exclusive) as a matrix {@code [to-from, cols]},
   * sharing memory.
   */
  public TensorView sliceRows(int from, int to) {
    Objects.checkFromToIndex(from, to, rows());
    long first = from * rowBytes();
    return new TensorView(
        name,
        dtype,
        new long[] {to - from, cols()},
        data.asSlice(first, (to - from) * rowBytes()),
        source,
        file == null ? null : (at, into) -> file.read(first + at, into));
  }

  /**
   * Copies the bytes from {@code at} on. A file is read for them, since the first look at a page of
   * a mapping costs a fault. See {@link ByteSource#read} for threads and errors.
   */
  public void read(long at, MemorySegment into) {
    Objects.checkFromIndexSize(at, into.byteSize(), data.byteSize());
    if (file == null) {
      MemorySegment.copy(data, at, into, 0, into.byteSize());
    } else {
      file.read(at, into);
    }
  }

  /**
   * What it means that looking at {@link #data} threw: a page of the mapping that the file no
   * longer has, or that the disk could not give.
   */
  public InfiniLoraException unreadable(InternalError thrown) {
    return new InfiniLoraException(
        ErrorCode.BAD_MODEL_FILE,
        "%s: tensor %s: cannot be read where it is mapped: the file was cut, or the disk failed"
            .formatted(source, name),
        thrown);
  }

  @Override
  public String toString() {
    return name + " " + dtype + Arrays.toString(shape);
  }
}
