package io.infinilora.backend.cuda;

import io.infinilora.core.Activation;

/** Products of a single row with the experts that it chose: {@code experts_row.cu}. */
final class OneRow {
  /** Features of a block. */
  private static final int FEATURES = 16;

  /**
   * Input features of a warp: two rounds of loads. More rounds were measured to be slower, and so
   * were more warps.
   */
  private static final int WARP_INPUT = 512;

  private final CudaStream stream;

  /** Ascending. */
  private final Variant[] variants;

  /**
   * A way to share the work.
   *
   * @param gated the kernel that joins gate and up
   * @param warps of a block; they share the input features
   */
  private record Variant(Kernel plain, Kernel gated, int warps) {
    static Variant of(CudaDevice device, int warps) {
      return new Variant(
          device.kernel("experts_row", "experts_row_" + warps),
          device.kernel("experts_row", "experts_gated_" + warps),
          warps);
    }
  }

  OneRow(CudaStream stream) {
    this.stream = stream;
    CudaDevice device = stream.device();
    variants = new Variant[] {Variant.of(device, 2), Variant.of(device, 4), Variant.of(device, 8)};
  }

  private Variant variant(int in) {
    for (Variant variant : variants) {
      if (in <= WARP_INPUT * variant.warps()) {
        return variant;
      }
    }
    return variants[variants.length - 1];
  }

  /**
   * {@code y[j] = x[j] W_e^T + b_e}, e being choice j.
   *
   * @param routing of one row
   * @param x one row for all choices, or one each
   * @param y device address of the result, a row per choice
   * @param wide whether y is float32
   */
  void multiply(
      CudaExpertProjection w,
      CudaRouting routing,
      CudaTensor x,
      long y,
      long yStride,
      boolean wide) {
    Variant variant = variant(w.shape().paddedIn());
    Launch launch =
        stream.launch(variant.plain()).pointer(x.address()).int64(x.rows() == 1 ? 0 : x.stride());
    finish(launch, variant, w, routing, y, yStride, wide);
  }

  /**
   * {@code y[j] = activation(gate[j], up[j]) W_e^T + b_e} in float32.
   *
   * @param gate a row per choice
   * @param up with the same stride
   */
  void multiply(
      CudaExpertProjection w,
      CudaRouting routing,
      Activation activation,
      CudaTensor gate,
      CudaTensor up,
      long y,
      long yStride) {
    Variant variant = variant(w.shape().paddedIn());
    Launch launch =
        stream
            .launch(variant.gated())
            .pointer(gate.address())
            .pointer(up.address())
            .int64(gate.stride())
            .int32(ElementOps.code(activation));
    finish(launch, variant, w, routing, y, yStride, true);
  }

  private static void finish(
      Launch launch,
      Variant variant,
      CudaExpertProjection w,
      CudaRouting routing,
      long y,
      long yStride,
      boolean wide) {
    StackedOutputs shape = w.shape();
    launch
        .pointer(w.weights())
        .pointer(w.biases())
        .int32(shape.paddedOut())
        .int32(shape.paddedIn())
        .pointer(routing.choices())
        .pointer(y)
        .int64(yStride)
        .int32(wide ? 1 : 0)
        .grid(Math.ceilDiv(shape.paddedOut(), FEATURES), routing.topK())
        .block(variant.warps() * 32)
        .dependent()
        .go();
  }
}
