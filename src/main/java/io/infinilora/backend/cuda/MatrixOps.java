package io.infinilora.backend.cuda;

import io.infinilora.backend.Projection;
import io.infinilora.backend.Tensor;

/** Dense products. The stream's thread only. */
final class MatrixOps implements AutoCloseable {
  /** Rows from which on arithmetic limits a product on current devices. */
  static final int MANY_ROWS = 17;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final FewRows few;
  private final ManyRowsMatrix many;

  MatrixOps(CudaStream stream, CudaChecks checks, FewRows few, ManyRowsMatrix many) {
    this.stream = stream;
    this.checks = checks;
    this.few = few;
    this.many = many;
  }

  /** See {@link io.infinilora.backend.OpStream#project}. */
  void project(Projection projection, Tensor in, Tensor... results) {
    if (!(projection instanceof CudaProjection w)) {
      throw new IllegalArgumentException("the projection belongs to another backend");
    }
    checks.owned(w.owner(), "the projection");
    CudaTensor x = checks.tensor(in, in.rows(), w.in(), "x");
    checks.that(
        results.length == w.outputs(),
        () -> "%d results of a projection with %d outputs".formatted(results.length, w.outputs()));
    CudaTensor[] outs = new CudaTensor[results.length];
    for (int i = 0; i < outs.length; i++) {
      outs[i] = checks.tensor(results[i], x.rows(), w.out(i), "output " + i);
    }
    checks.that(!x.wide(), () -> "x is float32, but products take bf16");
    int rows = stream.launchRows(x.rows());
    if (rows == 0) {
      return;
    }
    StackedOutputs shape = w.shape();
    if (areSiblings(outs)) {
      multiply(x, rows, w.weights(), w.biases(), shape.paddedOut(), shape.paddedIn(), outs[0]);
      return;
    }
    for (int i = 0; i < outs.length; i++) {
      multiply(x, rows, w.weights(i), w.biases(i), shape.paddedOut(i), shape.paddedIn(), outs[i]);
    }
  }

  /** Whether one product can write all of them. */
  static boolean areSiblings(CudaTensor... outs) {
    for (int i = 1; i < outs.length; i++) {
      if (!outs[i - 1].isFollowedBy(outs[i])) {
        return false;
      }
    }
    return true;
  }

  private void multiply(
      CudaTensor x, int rows, long weights, long bias, int features, int in, CudaTensor y) {
    if (rows < MANY_ROWS) {
      few.multiply(x, rows, weights, bias, features, in, y);
    } else {
      many.multiply(x, rows, weights, bias, features, in, y);
    }
  }

  /** The stream must have passed all products. */
  @Override
  public void close() {
    many.close();
  }
}
