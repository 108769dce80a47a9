package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.Activation;

/** Products by expert. The stream's thread only. */
final class ExpertOps {
  /** Routed rows per expert from which on arithmetic limits a product. */
  private static final int MANY_ROWS_PER_EXPERT = 24;

  /**
   * Of the sums over choices: of few rows in float32, and of many as {@code many_rows.cuh} says.
   */
  private static final int SUM_THREADS = 128;

  private static final int SUM_TERMS_THREADS = 256;

  /** Rows up to which their sums and the norm after them are one kernel. */
  private static final int NORM_ROWS = 64;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final RoutingOps routings;
  private final OneRow one;
  private final FewRows few;
  private final ManyRoutedRows many;
  private final Kernel sum;
  private final Kernel sumTerms;
  private final Kernel combineNorm;

  ExpertOps(
      CudaStream stream, CudaChecks checks, RoutingOps routings, FewRows few, ManyRoutedRows many) {
    this.stream = stream;
    this.checks = checks;
    this.routings = routings;
    this.one = new OneRow(stream);
    this.few = few;
    this.many = many;
    sum = stream.device().kernel("matrix_few", "experts_combine");
    sumTerms = stream.device().kernel("sorted_rows", "combine_terms");
    combineNorm = stream.device().kernel("combine_norm", "combine_norm");
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
    plan(routing, routed);
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
    plan(routing, routed);
    int features = w.shape().paddedOut();
    if (isMany(w, routed) && many.makesTerms()) {
      checks.that(!x.wide(), () -> "x is float32, but products take bf16");
      long terms = stream.scratch((long) routed * features * Short.BYTES);
      many.multiplyToTerms(w, routing, x, routed, terms, features);
      sum(sumTerms, SUM_TERMS_THREADS, routing, terms, features, rows, out);
    } else {
      sum(sum, SUM_THREADS, routing, terms(w, routing, x, routed), features, rows, out);
    }
  }

  /**
   * See {@link io.infinilora.backend.OpStream#expertCombine(Activation, ExpertProjection, Routing,
   * Tensor, Tensor, Tensor)}.
   *
   * @return whether it was done, as is only for a single row
   */
  boolean expertCombine(
      Activation activation,
      ExpertProjection weights,
      Routing chosen,
      Tensor gates,
      Tensor ups,
      Tensor result) {
    CudaExpertProjection w = projection(weights);
    CudaTensor out = checks.tensor(result, result.rows(), w.out(0), "out");
    long terms = gatedTerms(activation, w, chosen, gates, ups, out.rows());
    if (terms == 0) {
      return false;
    }
    CudaRouting routing = checks.routing(chosen, "the routing");
    sum(sum, SUM_THREADS, routing, terms, w.shape().paddedOut(), 1, out);
    return true;
  }

  /**
   * What the experts of a single row give, of gate and up.
   *
   * @return device address of {@code [topK, out]} in float32; 0 if it was not done
   */
  private long gatedTerms(
      Activation activation,
      CudaExpertProjection w,
      Routing chosen,
      Tensor gates,
      Tensor ups,
      int rows) {
    if (!isOneRow(stream.launchRows(rows) * chosen.topK(), chosen)) {
      return 0;
    }
    checks.that(w.outputs() == 1, () -> w.outputs() + " outputs cannot be combined");
    CudaRouting routing = checks.routing(chosen, rows, chosen.topK(), w.experts(), "the routing");
    CudaTensor gate = checks.tensor(gates, rows * routing.topK(), w.in(), "gate");
    CudaTensor up = checks.sameShape(ups, gate, "up");
    if (gate.wide() || up.wide() || gate.stride() != up.stride()) {
      return 0;
    }
    int features = w.shape().paddedOut();
    long terms = stream.scratch((long) routing.topK() * features * Float.BYTES);
    one.multiply(w, routing, activation, gate, up, terms, features);
    return terms;
  }

  /**
   * Sums what a row's experts gave.
   *
   * @param kernel for the terms' type
   * @param terms device address of {@code [rows * topK, features]}
   */
  private void sum(
      Kernel kernel,
      int threads,
      CudaRouting routing,
      long terms,
      int features,
      int rows,
      CudaTensor out) {
    stream
        .launch(kernel)
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

  /** What {@link #expertCombine} sums, as float32 rows of the padded output. */
  private long terms(CudaExpertProjection w, CudaRouting routing, CudaTensor x, int routed) {
    int features = w.shape().paddedOut();
    long terms = stream.scratch((long) routed * features * Float.BYTES);
    multiply(w, routing, x, routed, 1, terms, features, true);
    return terms;
  }

  /** Whether {@link #expertCombineAddNorm} takes so many rows. */
  boolean combinesWithNorm(ExpertProjection weights, int inRows, int topK) {
    int rows = stream.launchRows(inRows);
    return rows > 0 && rows <= NORM_ROWS && !isMany(projection(weights), rows * topK);
  }

  /**
   * {@link #expertCombine}, then a norm of few rows.
   *
   * @param norm of which x is room for the sum
   */
  void expertCombineAddNorm(ExpertProjection weights, Routing chosen, Tensor in, AddedNorm norm) {
    CudaExpertProjection w = projection(weights);
    CudaTensor y = norm.y();
    int rows = stream.launchRows(y.rows());
    int routed = rows * chosen.topK();
    checks.that(w.outputs() == 1, () -> w.outputs() + " outputs cannot be combined");
    CudaRouting routing =
        checks.routing(chosen, y.rows(), chosen.topK(), w.experts(), "the routing");
    CudaTensor x = checks.tensor(in, y.rows() * routing.topK(), w.in(), "x");
    checks.tensor(y, y.rows(), w.out(0), "y");
    plan(routing, routed);
    long terms = terms(w, routing, x, routed);
    sum(routing, terms, w.shape().paddedOut(), rows, norm);
  }

  /**
   * {@link #expertCombine(Activation, ExpertProjection, Routing, Tensor, Tensor, Tensor)}, then a
   * norm.
   *
   * @param norm of which x is room for the sum
   * @return whether it was done, as is only for a single row
   */
  boolean expertCombineAddNorm(
      Activation activation,
      ExpertProjection weights,
      Routing chosen,
      Tensor gates,
      Tensor ups,
      AddedNorm norm) {
    CudaExpertProjection w = projection(weights);
    checks.tensor(norm.y(), norm.y().rows(), w.out(0), "y");
    long terms = gatedTerms(activation, w, chosen, gates, ups, norm.y().rows());
    if (terms == 0) {
      return false;
    }
    CudaRouting routing = checks.routing(chosen, "the routing");
    sum(routing, terms, w.shape().paddedOut(), 1, norm);
    return true;
  }

  /** Sums what rows' experts gave, adds that and normalises. */
  private void sum(CudaRouting routing, long terms, int features, int rows, AddedNorm norm) {
    CudaTensor y = norm.y();
    int vectors = y.paddedCols() / CudaTensor.ALIGNMENT;
    stream
        .launch(combineNorm)
        .pointer(terms)
        .int64(features)
        .pointer(routing.choices())
        .pointer(routing.weights())
        .int32(routing.topK())
        .int32(norm.x().wide() ? 1 : 0)
        .tensor(y)
        .pointer(norm.weight().address())
        .int32(y.cols())
        .float32(norm.eps())
        .tensor(norm.out())
        .grid(rows)
        .block(Math.ceilDiv(vectors, 32) * 32)
        .dependent()
        .go();
  }

  /** Makes the plan that a product needs. */
  private void plan(CudaRouting routing, int routed) {
    if (!isOneRow(routed, routing)) {
      routings.plan(routing);
    }
  }

  private static boolean isOneRow(int routed, Routing routing) {
    return routed == routing.topK();
  }

  private static boolean isMany(CudaExpertProjection w, int routed) {
    return routed > fewRouted(w.experts());
  }

  /** Most routed rows that are few. */
  static int fewRouted(int experts) {
    return MANY_ROWS_PER_EXPERT * experts - 1;
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
    if (isOneRow(routed, routing)) {
      one.multiply(w, routing, x, y, yStride, wide);
    } else if (!isMany(w, routed)) {
      few.multiplyRouted(w, routing, x, routed, choices, y, yStride, wide);
    } else {
      many.multiply(w, routing, x, routed, choices, y, yStride, wide);
    }
  }
}
