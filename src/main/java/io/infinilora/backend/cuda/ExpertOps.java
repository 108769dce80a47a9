package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;

/** Products by expert. The stream's thread only. */
final class ExpertOps {
  /** Routed rows per expert from which on arithmetic limits a product. */
  private static final int MANY_ROWS_PER_EXPERT = 24;

  /**
   * Of the sums over choices: of few rows in float32, and of many as {@code many_rows.cuh} says.
   */
  private static final int SUM_THREADS = 128;

  private static final int SUM_TERMS_THREADS = 256;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final RoutingOps routings;
  private final FewRows few;
  private final ManyRoutedRows many;
  private final Kernel sum;
  private final Kernel sumTerms;

  ExpertOps(
      CudaStream stream, CudaChecks checks, RoutingOps routings, FewRows few, ManyRoutedRows many) {
    this.stream = stream;
    this.checks = checks;
    this.routings = routings;
    this.few = few;
    this.many = many;
    sum = stream.device().kernel("matrix_few", "experts_combine");
    sumTerms = stream.device().kernel("sorted_rows", "combine_terms");
  }

  private CudaExpertProjection projection(ExpertProjection projection) {
    if (!(projection instanceof CudaExpertProjection w)) {
      throw new IllegalArgumentException("the experts belong to another backend");
    }
    checks.owned(w.owner(), "the experts");
    return w;
  }

  /** See {@link io.infinilora.backend.OpStream#expertProject}. */
  void expertProject(ExpertProjection weights, Routing chosen, Tensor in, Tensor... results) {
    CudaExpertProjection w = projection(weights);
    CudaRouting routing =
        checks.routing(chosen, in.rows(), chosen.topK(), w.experts(), "the routing");
    CudaTensor x = checks.tensor(in, in.rows(), w.in(), "x");
    checks.that(
        results.length == w.outputs(),
        () -> "%d results of experts with %d outputs".formatted(results.length, w.outputs()));
    CudaTensor[] outs = new CudaTensor[results.length];
    for (int i = 0; i < outs.length; i++) {
      outs[i] = checks.tensor(results[i], x.rows() * routing.topK(), w.out(i), "output " + i);
    }
    int routed = stream.launchRows(x.rows()) * routing.topK();
    if (routed == 0) {
      return;
    }
    routings.plan(routing);
    if (MatrixOps.areSiblings(outs)) {
      multiply(
          w,
          routing,
          x,
          routed,
          routing.topK(),
          outs[0].address(),
          outs[0].stride(),
          outs[0].wide());
      return;
    }
    StackedOutputs shape = w.shape();
    boolean wide = outs[0].wide();
    int elementBytes = outs[0].elementBytes();
    long scratch = stream.scratch((long) routed * shape.paddedOut() * elementBytes);
    multiply(w, routing, x, routed, routing.topK(), scratch, shape.paddedOut(), wide);
    for (int i = 0; i < outs.length; i++) {
      long from = scratch + (long) shape.offset(i) * elementBytes;
      copy(from, shape.paddedOut(), outs[i], routed);
    }
  }

  /** Copies columns of a scratch matrix to a tensor of the same element type. */
  private void copy(long from, int stride, CudaTensor to, int rows) {
    stream.copyRows(
        from,
        (long) stride * to.elementBytes(),
        to.address(),
        (long) to.stride() * to.elementBytes(),
        (long) to.paddedCols() * to.elementBytes(),
        rows);
  }

  /** See {@link io.infinilora.backend.OpStream#expertCombine}. */
  void expertCombine(ExpertProjection weights, Routing chosen, Tensor in, Tensor result) {
    CudaExpertProjection w = projection(weights);
    checks.that(w.outputs() == 1, () -> w.outputs() + " outputs cannot be combined");
    CudaRouting routing =
        checks.routing(chosen, result.rows(), chosen.topK(), w.experts(), "the routing");
    CudaTensor x = checks.tensor(in, result.rows() * routing.topK(), w.in(), "x");
    CudaTensor out = checks.tensor(result, result.rows(), w.out(0), "out");
    int rows = stream.launchRows(out.rows());
    int routed = rows * routing.topK();
    if (rows == 0) {
      return;
    }
    routings.plan(routing);
    int features = w.shape().paddedOut();
    boolean half = isMany(w, routed) && many.makesTerms();
    long terms = stream.scratch((long) routed * features * (half ? Short.BYTES : Float.BYTES));
    if (half) {
      checks.that(!x.wide(), () -> "x is float32, but products take bf16");
      many.multiplyToTerms(w, routing, x, routed, terms, features);
    } else {
      multiply(w, routing, x, routed, 1, terms, features, true);
    }
    int threads = half ? SUM_TERMS_THREADS : SUM_THREADS;
    stream
        .launch(half ? sumTerms : sum)
        .pointer(terms)
        .int64(features)
        .pointer(routing.choices())
        .pointer(routing.weights())
        .int32(routing.topK())
        .int32(features)
        .pointer(out.address())
        .int64(out.stride())
        .int32(out.wide() ? 1 : 0)
        .grid(Math.ceilDiv(features, 8 * threads), rows)
        .block(threads)
        .dependent()
        .go();
  }

  private boolean isMany(CudaExpertProjection w, int routed) {
    return routed >= MANY_ROWS_PER_EXPERT * w.experts();
  }

  private void multiply(
      CudaExpertProjection w,
      CudaRouting routing,
      CudaTensor x,
      int routed,
      int choices,
      long y,
      long yStride,
      boolean wide) {
    checks.that(!x.wide(), () -> "x is float32, but products take bf16");
    if (!isMany(w, routed)) {
      few.multiplyRouted(w, routing, x, routed, choices, y, yStride, wide);
    } else {
      many.multiply(w, routing, x, routed, choices, y, yStride, wide);
    }
  }
}
