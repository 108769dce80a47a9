package io.infinilora.backend.cuda;

import io.infinilora.core.InfiniLoraException;
import java.util.LinkedHashMap;
import java.util.SequencedMap;

/** Products of many rows by cuBLASLt. The stream's thread only. */
final class CublasRows implements ManyRowsMatrix {
  private static final long WORKSPACE_BYTES = 32L << 20;

  /** Shapes whose plans are kept. */
  private static final int MAX_PLANS = 4096;

  private static final int BIAS_THREADS = 256;

  private final CudaStream stream;
  private final CublasLt blas;
  private final DeviceMemory workspace;
  private final Kernel addBias;

  /** The one that was used longest ago comes first. */
  private final SequencedMap<Shape, CublasLt.Plan> plans = new LinkedHashMap<>(16, 0.75f, true);

  private record Shape(int rows, int n, int k, int xStride, int yStride, boolean wide) {}

  CublasRows(CudaStream stream, CublasLt blas) {
    this.stream = stream;
    this.blas = blas;
    workspace = stream.device().allocate(WORKSPACE_BYTES, "workspace");
    addBias = stream.device().kernel("matrix_few", "add_bias");
  }

  @Override
  public void multiply(
      CudaTensor x, int rows, long weights, long bias, int features, int in, CudaTensor y) {
    stream.bind();
    CublasLt.Plan plan = plan(new Shape(rows, features, in, x.stride(), y.stride(), y.wide()));
    if (stream.announce(Signature.ofProduct(x, rows, weights, bias, features, in, y))) {
      try {
        blas.multiply(
            plan,
            weights,
            x.address(),
            y.address(),
            workspace.address(),
            workspace.bytes(),
            stream.handle());
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

  private CublasLt.Plan plan(Shape s) {
    CublasLt.Plan plan = plans.get(s);
    if (plan == null) {
      if (plans.size() == MAX_PLANS) {
        blas.destroy(plans.pollFirstEntry().getValue());
      }
      plan = blas.plan(s.rows(), s.n(), s.k(), s.xStride(), s.yStride(), s.wide(), WORKSPACE_BYTES);
      plans.put(s, plan);
    }
    return plan;
  }

  @Override
  public void close() {
    plans.values().forEach(blas::destroy);
    plans.clear();
    workspace.close();
  }
}
