package io.infinilora.backend.cuda;

import io.infinilora.backend.Tensor;
import java.util.Objects;

/**
 * Rows of activations on the device: bf16, or float32 where it is wide. Columns from {@code cols}
 * up to the next multiple of 8 are padding and hold zeros.
 *
 * @param stride elements from a row to the next, a multiple of 8
 * @param capacity rows that there is memory for
 */
record CudaTensor(
    CudaBackend owner, long address, int rows, int cols, int stride, boolean wide, int capacity)
    implements Tensor {

  /** Elements to which widths are rounded up. */
  static final int ALIGNMENT = 8;

  /** The next multiple of 8. */
  static int padded(int cols) {
    return (cols + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  int elementBytes() {
    return wide ? Float.BYTES : Short.BYTES;
  }

  /** Width with padding. */
  int paddedCols() {
    return padded(cols);
  }

  @Override
  public Tensor first(int count) {
    Objects.checkFromToIndex(0, count, capacity);
    return new CudaTensor(owner, address, count, cols, stride, wide, capacity);
  }

  /** Whether {@code next} lies right beside this one, in the same rows. */
  boolean isFollowedBy(CudaTensor next) {
    return wide == next.wide
        && stride == next.stride
        && rows == next.rows
        && next.address == address + (long) paddedCols() * elementBytes();
  }

  String shape() {
    return "[" + rows + ", " + cols + "]";
  }
}
