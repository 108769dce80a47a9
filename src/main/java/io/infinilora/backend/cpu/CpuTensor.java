package io.infinilora.backend.cpu;

import io.infinilora.backend.Tensor;

/**
 * A matrix of activations.
 *
 * @param address first element; followed by at least one vector of readable padding after the
 *     capacity
 * @param capacity rows allocated
 */
record CpuTensor(CpuBackend owner, long address, int rows, int cols, int capacity)
    implements Tensor {

  @Override
  public CpuTensor first(int n) {
    if (n < 0 || n > capacity) {
      throw new IndexOutOfBoundsException(n + " rows of a tensor with room for " + capacity);
    }
    return n == rows ? this : new CpuTensor(owner, address, n, cols, capacity);
  }

  /** Bytes from one row to the next. */
  long stride() {
    return (long) cols * Float.BYTES;
  }

  /** Address of a row. */
  long row(int r) {
    return address + r * stride();
  }

  /** {@code [rows, cols]}, for messages. */
  String shape() {
    return "[" + rows + ", " + cols + "]";
  }
}
