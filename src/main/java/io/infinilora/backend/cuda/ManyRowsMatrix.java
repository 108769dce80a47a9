package io.infinilora.backend.cuda;

/** Products of so many rows that arithmetic is the limit, not the weights' bytes. */
interface ManyRowsMatrix {

  /** {@code y = x W^T + b} for the outputs from {@code weights} on, like {@link FewRows}. */
  void multiply(
      CudaTensor x, int rows, long weights, long bias, int features, int in, CudaTensor y);

  /**
   * The same by expert, like {@link FewRows}.
   *
   * @param routed routed rows
   * @param choices routed rows per row of {@code x}
   * @param y device address of the result, a row per routed row
   */
  void multiplyRouted(
      CudaExpertProjection w,
      CudaRouting routing,
      CudaTensor x,
      int routed,
      int choices,
      long y,
      long yStride,
      boolean wide);
}
