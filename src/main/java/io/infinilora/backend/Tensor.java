package io.infinilora.backend;

/**
 * A matrix of activations in device memory, row-major: float32 on the CPU, bf16 on a GPU unless it
 * is {@linkplain Backend#wideTensor wide}. Created by {@link Backend}; belongs to the backend that
 * made it. Not synchronised: writers and readers on different streams are ordered by {@link
 * Signal}s.
 */
public interface Tensor {
  /** Rows that operators process. */
  int rows();

  /** Elements of a row. */
  int cols();

  /**
   * The first {@code rows} rows, sharing memory; cheap. Throws {@link IndexOutOfBoundsException}
   * beyond the capacity.
   */
  Tensor first(int rows);
}
