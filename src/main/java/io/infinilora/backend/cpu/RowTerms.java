package io.infinilora.backend.cpu;

/**
 * Which results are summed for which rows, with which weights: those of row {@code rows[i]} are
 * {@code starts[i] .. starts[i + 1] - 1} of {@code places} and {@code weights}.
 *
 * @param places where the results are: in rows behind the first
 */
record RowTerms(int[] rows, int[] starts, int[] places, float[] weights) {

  /** {@code y[rows[i]] += sum of weight * x[place]}, each sum complete before it is added. */
  void add(int i, long x, CpuTensor y) {
    ElementKernels.addWeightedSum(
        x, y.stride(), places, weights, starts[i], starts[i + 1], y.row(rows[i]), y.cols());
  }
}
