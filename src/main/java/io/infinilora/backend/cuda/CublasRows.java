package io.infinilora.backend.cuda;

import io.infinilora.core.InfiniLoraException;
import java.util.LinkedHashMap;
import java.util.Map;

/** Products of many rows by cuBLASLt. The stream's thread only. */
final class CublasRows implements ManyRowsMatrix {
  private static final long WORKSPACE_BYTES = 32L << 20;

  /** Shapes whose plans are kept. */
  private static final int MAX_PLANS = 4096;

  private static final int BIAS_THREADS = 256;

  private final CudaStream stream;
  private final CublasLt blas;
  private final long workspace;
  private final Kernel addBias;
  private final Map<Shape, CublasLt.Plan> plans = new LinkedHashMap<>();

  private record Shape(int rows, int n, int k, int xStride, int yStride, boolean wide) {}

  CublasRows(CudaStream stream, CublasLt blas) {
    this.stream = stream;
    this.blas = blas;
    workspace = stream.device().allocate(WORKSPACE_BYTES, "workspace").address();
    addBias = stream.device().kernel("matrix_few", "add_bias");
  }

  @Override
  public void multiply(
      CudaTensor x, int rows, long weights, long bias, int features, int in, CudaTensor y) {
    Shape shape = new Shape(rows, features, in, x.stride(), y.stride(), y.wide());
    CublasLt.Plan plan = plans.get(shape);
    if (plan == null) {
      if (plans.size() == MAX_PLANS) {
        plans.clear();
      }
      plan = blas.plan(rows, features, in, x.stride(), y.stride(), y.wide(), WORKSPACE_BYTES);
      plans.put(shape, plan);
    }
    stream.bind();
    if (stream.announce(
        x.address() * 31 + weights * 37 + y.address() * 41 + rows * 43L + features)) {
      try {
        blas.multiply(
            plan, weights, x.address(), y.address(), workspace, WORKSPACE_BYTES, stream.handle());
      } catch (InfiniLoraException e) {
        // The library has statuses of its own, the same for a lost device as for a bad argument.
        stream.device().check(stream.device().state(), e.getMessage());
        throw e;
      }
    }
    if (bias != 0) {
      stream
          .launch(addBias)
          .pointer(y.address())
          .int64(y.stride())
          .int32(features)
          .pointer(bias)
          .int32(y.wide() ? 1 : 0)
          .grid(Math.ceilDiv(features / 8, BIAS_THREADS), rows)
          .block(BIAS_THREADS)
          .dependent()
          .go();
    }
  }
}
