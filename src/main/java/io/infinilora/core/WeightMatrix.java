package io.infinilora.core;

import java.util.Objects;

/**
 * A weight matrix {@code [out, in]} as a checkpoint offers it to a backend: a view of the file, and
 * the order in which its rows are to be read. Some formats store the rows of q and k permuted (GGUF
 * of the llama family pairs neighbouring elements for the rotation); reading them in {@code
 * rowOrder} gives the Hugging Face order, which adapters assume.
 *
 * @param tensor the matrix in the file
 * @param rowOrder row {@code i} of this matrix is row {@code rowOrder[i]} of the tensor; null for
 *     the identity
 */
public record WeightMatrix(TensorView tensor, int[] rowOrder) {

  /** Checks that the order, if any, is as long as the matrix. */
  public WeightMatrix {
    Objects.requireNonNull(tensor);
    if (rowOrder != null && rowOrder.length != tensor.rows()) {
      throw new IllegalArgumentException("row order of " + rowOrder.length + " for " + tensor);
    }
  }

  /** A matrix in the order of its file. */
  public static WeightMatrix of(TensorView tensor) {
    return new WeightMatrix(tensor, null);
  }

  /** Rows of the matrix, the output features. */
  public int rows() {
    return tensor.rows();
  }

  /** Columns of the matrix, the input features. */
  public int cols() {
    return tensor.cols();
  }

  /** The row of the file that holds row {@code i} of this matrix. */
  public int sourceRow(int i) {
    return rowOrder == null ? i : rowOrder[i];
  }
}
