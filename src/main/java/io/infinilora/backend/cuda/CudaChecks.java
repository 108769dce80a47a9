package io.infinilora.backend.cuda;

import io.infinilora.backend.Embedding;
import io.infinilora.backend.OperatorChecks;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;

/** Checks of what belongs to this backend. */
final class CudaChecks extends OperatorChecks {
  private final CudaBackend backend;

  CudaChecks(CudaBackend backend) {
    this.backend = backend;
  }

  /** Whether {@code owner} is this backend. */
  void owned(CudaBackend owner, String what) {
    if (owner != backend) {
      throw new IllegalArgumentException(what + " belongs to another backend");
    }
    backend.checkOpen();
  }

  CudaTensor tensor(Tensor tensor, String what) {
    if (!(tensor instanceof CudaTensor t)) {
      throw new IllegalArgumentException(what + " belongs to another backend");
    }
    owned(t.owner(), what);
    return t;
  }

  CudaTensor tensor(Tensor tensor, int rows, int cols, String what) {
    CudaTensor t = tensor(tensor, what);
    that(
        t.rows() == rows && t.cols() == cols,
        () -> "%s is %s, but should be [%d, %d]".formatted(what, t.shape(), rows, cols));
    return t;
  }

  CudaTensor sameShape(Tensor tensor, CudaTensor like, String what) {
    return tensor(tensor, like.rows(), like.cols(), what);
  }

  CudaVec vec(Vec vec, String what) {
    if (!(vec instanceof CudaVec v)) {
      throw new IllegalArgumentException(what + " belongs to another backend");
    }
    owned(v.owner(), what);
    return v;
  }

  CudaVec vec(Vec vec, int size, String what) {
    CudaVec v = vec(vec, what);
    that(v.size() == size, () -> "%s has %d elements, not %d".formatted(what, v.size(), size));
    return v;
  }

  CudaEmbedding embedding(Embedding table) {
    if (!(table instanceof CudaEmbedding e)) {
      throw new IllegalArgumentException("the embedding belongs to another backend");
    }
    owned(e.owner(), "the embedding");
    return e;
  }

  CudaRouting routing(Routing routing, String what) {
    if (!(routing instanceof CudaRouting r)) {
      throw new IllegalArgumentException(what + " belongs to another backend");
    }
    owned(r.owner(), what);
    return r;
  }

  CudaRouting routing(Routing routing, int rows, int topK, int experts, String what) {
    CudaRouting r = routing(routing, what);
    that(
        r.rows() == rows && r.topK() == topK && r.experts() == experts,
        () ->
            "%s is %s, but should be [%d, %d of %d]"
                .formatted(what, r.shape(), rows, topK, experts));
    return r;
  }

  /** Whether row numbers exist. */
  void rowsBelow(int[] rows, int limit) {
    indices(rows, limit, "row");
  }
}
