package io.infinilora.backend.cuda;

import io.infinilora.backend.NormParams;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ModelSpec;

/**
 * What {@link io.infinilora.backend.OpStream#addNorm} works on, checked; for kernels that have it
 * in them, which take RMS norms of rows that one block holds.
 */
record AddedNorm(CudaTensor x, CudaTensor y, CudaVec weight, float eps, CudaTensor out) {
  /** Widest rows within other kernels, as {@code norm.cuh} has them. */
  static final int MAX_COLS = 4096;

  /** Whether other kernels can have such a norm in them. */
  static boolean fits(NormParams norm, Tensor y) {
    return norm.kind() == ModelSpec.Norm.RMS && y.cols() <= MAX_COLS;
  }

  static AddedNorm of(CudaChecks checks, Tensor x, Tensor y, NormParams norm, Tensor out) {
    CudaTensor from = checks.tensor(x, "addNorm x");
    CudaTensor sum = checks.sameShape(y, from, "addNorm y");
    CudaVec w = checks.vec(norm.weight(), from.cols(), "addNorm weight");
    CudaTensor to = checks.sameShape(out, from, "addNorm out");
    checks.that(
        to.address() != from.address() && to.address() != sum.address(), () -> "addNorm in place");
    return new AddedNorm(from, sum, w, norm.eps(), to);
  }
}
