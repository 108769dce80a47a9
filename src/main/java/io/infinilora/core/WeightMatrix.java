package io.infinilora.core;

import java.util.Arrays;
import java.util.Objects;

/**
 * A weight matrix {@code [rows, cols]} = {@code [out, in]} as a checkpoint or an adapter offers it
 * to a backend: a strided view of a tensor in a file, never a copy. Fused, interleaved and
 * transposed parameters become ordinary matrices this way.
 *
 * <p>Element (i, j) is the tensor's element {@link #element}{@code (i) + j * colStride}. Where
 * {@link #contiguous} holds, and always for quantised types, a row's elements are neighbours.
 *
 * @param tensor the tensor in the file
 * @param offset the tensor's element that is (0, 0), before {@code rowOrder}
 * @param rows output features
 * @param cols input features
 * @param rowStride elements from a row to the next
 * @param colStride elements from a column to the next
 * @param rowOrder row {@code i} of this matrix is row {@code rowOrder[i]} of the strided view; null
 *     for the identity. GGUF files of the llama family store q and k with the rotation's pairs as
 *     neighbours; reading them in this order gives the Hugging Face order, which adapters assume
 * @param scales for {@link DType#FP4} a {@link DType#U8} tensor with one power of two per 32
 *     elements of the tensor, in the same order; else null
 */
public record WeightMatrix(
    TensorView tensor,
    long offset,
    int rows,
    int cols,
    long rowStride,
    long colStride,
    int[] rowOrder,
    TensorView scales) {

  /** Checks that all elements lie in the tensor, in whole blocks if it is quantised. */
  public WeightMatrix {
    Objects.requireNonNull(tensor);
    if (rows < 1 || cols < 1 || offset < 0 || rowStride < 0 || colStride < 0) {
      throw new IllegalArgumentException("[" + rows + ", " + cols + "] of " + tensor);
    }
    long last = offset + (rows - 1) * rowStride + (cols - 1) * colStride;
    if (last >= tensor.elements()) {
      throw new IllegalArgumentException("element " + last + " of " + tensor);
    }
    if (rowOrder != null && rowOrder.length != rows) {
      throw new IllegalArgumentException("row order of " + rowOrder.length + " for " + tensor);
    }
    int block = tensor.dtype().blockElements();
    if (block > 1
        && (colStride != 1 || offset % block != 0 || rowStride % block != 0 || cols % block != 0)) {
      throw new IllegalArgumentException("rows of " + tensor + " are not whole blocks");
    }
    if ((tensor.dtype() == DType.FP4) != (scales != null)
        || (scales != null && scales.elements() * block != tensor.elements())) {
      throw new IllegalArgumentException("scales " + scales + " for " + tensor);
    }
  }

  /** A whole tensor, all dimensions but the last taken as rows, in the order of its file. */
  public static WeightMatrix of(TensorView tensor) {
    return of(tensor, (int[]) null);
  }

  /** The same with its rows in another order. */
  public static WeightMatrix of(TensorView tensor, int[] rowOrder) {
    return new WeightMatrix(
        tensor, 0, tensor.rows(), tensor.cols(), tensor.cols(), 1, rowOrder, null);
  }

  /** A whole {@link DType#FP4} tensor with its scales. */
  public static WeightMatrix scaled(TensorView tensor, TensorView scales) {
    return new WeightMatrix(
        tensor, 0, tensor.rows(), tensor.cols(), tensor.cols(), 1, null, scales);
  }

  /** Every {@code step}-th row, from row {@code first} on. The matrix must be in file order. */
  public WeightMatrix rows(int first, int step, int count) {
    Objects.checkIndex(first + (long) (count - 1) * step, rows);
    if (rowOrder != null) {
      throw new IllegalStateException("rows of a reordered matrix");
    }
    return new WeightMatrix(
        tensor, offset + first * rowStride, count, cols, step * rowStride, colStride, null, scales);
  }

  /** Every {@code step}-th column, from column {@code first} on. Plain types only. */
  public WeightMatrix cols(int first, int step, int count) {
    Objects.checkIndex(first + (long) (count - 1) * step, cols);
    return new WeightMatrix(
        tensor,
        offset + first * colStride,
        rows,
        count,
        rowStride,
        step * colStride,
        rowOrder,
        scales);
  }

  /** Rows and columns exchanged. Plain types in file order only. */
  public WeightMatrix transposed() {
    if (rowOrder != null) {
      throw new IllegalStateException("transposition of a reordered matrix");
    }
    return new WeightMatrix(tensor, offset, cols, rows, colStride, rowStride, null, scales);
  }

  /** The tensor's element that is (row, 0). */
  public long element(int row) {
    return offset + (rowOrder == null ? row : rowOrder[row]) * rowStride;
  }

  /** Whether the elements of a row are neighbours in the file. */
  public boolean contiguous() {
    return colStride == 1;
  }

  /** Element type. */
  public DType dtype() {
    return tensor.dtype();
  }

  @Override
  public String toString() {
    return tensor.name()
        + " "
        + tensor.dtype()
        + Arrays.toString(tensor.shape())
        + " as ["
        + rows
        + ", "
        + cols
        + "]";
  }
}
