package io.infinilora.backend.cuda;

/**
 * Products of few rows: {@code matrix_few.cu}, which streams the weights. Correct for any number of
 * rows.
 */
final class FewRows {
  /** Rows of a tile: up to them, kernels take a single one. */
  private static final int TILE = 8;

  /** Features of a fragment. */
  private static final int FRAGMENT = 16;

  private static final int LONG_INPUT = 4096;
  private static final int SHORT_INPUT = 1024;

  private final CudaStream stream;
  private final Variant longInput;
  private final Variant normal;
  private final Variant shortInput;

  /**
   * A way to share the work.
   *
   * @param warps of a block; they share the input features
   * @param fragments of a block
   * @param routedTile like routed, where no expert has more rows than a tile
   */
  private record Variant(Kernel dense, Kernel routed, Kernel routedTile, int warps, int fragments) {
    static Variant of(CudaDevice device, int warps, int fragments) {
      String suffix = "_%d_%d".formatted(warps, fragments);
      return new Variant(
          device.kernel("matrix_few", "matrix_few" + suffix),
          device.kernel("matrix_few", "experts_few" + suffix),
          device.kernel("matrix_few", "experts_one" + suffix),
          warps,
          fragments);
    }

    int blocks(int features) {
      return Math.ceilDiv(features, FRAGMENT * fragments);
    }
  }

  FewRows(CudaStream stream) {
    this.stream = stream;
    CudaDevice device = stream.device();
    longInput = Variant.of(device, 8, 1);
    normal = Variant.of(device, 4, 1);
    shortInput = Variant.of(device, 2, 1);
  }

  private Variant variant(int in) {
    if (in >= LONG_INPUT) {
      return longInput;
    }
    return in < SHORT_INPUT ? shortInput : normal;
  }

  /**
   * {@code y = x W^T + b}.
   *
   * @param rows rows to launch
   * @param weights {@code [features, in]}
   * @param bias 0 for none
   * @param features rows of the weights, from the first column of {@code y} on
   */
  void multiply(
      CudaTensor x, int rows, long weights, long bias, int features, int in, CudaTensor y) {
    Variant variant = variant(in);
    stream
        .launch(variant.dense())
        .pointer(x.address())
        .int64(x.stride())
        .int32(rows)
        .pointer(weights)
        .pointer(bias)
        .int32(features)
        .int32(in)
        .pointer(y.address())
        .int64(y.stride())
        .int32(y.wide() ? 1 : 0)
        .grid(variant.blocks(features))
        .block(variant.warps() * 32)
        .dependent()
        .go();
  }

  /**
   * The same by expert.
   *
   * @param routed routed rows to launch for
   * @param choices routed rows per row of {@code x}
   * @param y device address of the result, a row per routed row
   * @param wide whether y is float32
   */
  void multiplyRouted(
      CudaExpertProjection w,
      CudaRouting routing,
      CudaTensor x,
      int routed,
      int choices,
      long y,
      long yStride,
      boolean wide) {
    StackedOutputs shape = w.shape();
    Variant variant = variant(shape.paddedIn());
    RoutingPlan plan = routing.plan();
    // A row's choices differ, so that an expert has at most as many routed rows as there are rows.
    boolean tile = routed <= TILE * routing.topK();
    stream
        .launch(tile ? variant.routedTile() : variant.routed())
        .pointer(x.address())
        .int64(x.stride())
        .int32(choices)
        .pointer(w.weights())
        .pointer(w.biases())
        .int32(shape.paddedOut())
        .int32(shape.paddedIn())
        .pointer(plan.starts())
        .pointer(plan.sorted())
        .pointer(plan.active())
        .pointer(y)
        .int64(yStride)
        .int32(wide ? 1 : 0)
        .grid(variant.blocks(shape.paddedOut()), Math.min(w.experts(), routed))
        .block(variant.warps() * 32)
        .dependent()
        .go();
  }
}
