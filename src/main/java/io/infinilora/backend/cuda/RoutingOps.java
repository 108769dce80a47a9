package io.infinilora.backend.cuda;

import io.infinilora.backend.Router;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ModelSpec;

/** Chooses experts, and plans which rows they get. The stream's thread only. */
final class RoutingOps {
  /** As {@code experts.cuh} and {@code route.cu} have them. */
  static final int MAX_EXPERTS = 256;

  static final int MAX_CHOICES = 16;
  private static final int FEW_ROWS = 64;
  private static final int ROUTE_THREADS = 256;
  private static final int ROUTE_ROWS = ROUTE_THREADS / 32;
  private static final int PLAN_THREADS = 1024;

  /** As {@code router.cu} has them. */
  private static final int ROUTER_THREADS = 512;

  private static final int ROUTER_FEATURES = 16;
  private static final int ROUTER_SHARED = 70_784;
  private static final int NORM_ROUTER_THREADS = 256;
  private static final int NORM_ROUTER_SHARED = 18_112;

  /** Rows up to which the norm is faster in the kernel, which takes up to 4. */
  private static final int NORM_ROUTER_ROWS = 2;

  /** Elements between a row's end and the next in shared memory. */
  private static final int NORM_ROW_PADDING = 32;

  /** Blocks that every device with clusters can run as one. */
  private static final int MAX_CLUSTER = 8;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final Kernel routeFew;
  private final Kernel routeRows;
  private final Kernel routeFrom;
  private final Kernel normRoute;
  private final Kernel planCount;
  private final Kernel planFill;

  RoutingOps(CudaStream stream, CudaChecks checks) {
    this.stream = stream;
    this.checks = checks;
    CudaDevice device = stream.device();
    routeFew = device.kernel("route", "route_few");
    routeRows = device.kernel("route", "route_rows");
    routeFrom = device.kernel("router", "route_from").sharedLimit(ROUTER_SHARED);
    int longestRow = (AddedNorm.MAX_COLS + NORM_ROW_PADDING) * Short.BYTES;
    normRoute =
        device
            .kernel("router", "norm_route")
            .sharedLimit(NORM_ROUTER_SHARED + NORM_ROUTER_ROWS * longestRow);
    planCount = device.kernel("route", "plan_count");
    planFill = device.kernel("route", "plan_fill");
  }

  /**
   * See {@link io.infinilora.backend.OpStream#route}.
   *
   * @param rowCount device address of the number of rows that are not padding, or 0 for all
   */
  void route(Tensor scores, ModelSpec.Moe moe, Routing result, long rowCount) {
    CudaTensor logits = checks.tensor(scores, scores.rows(), moe.experts(), "the logits");
    CudaRouting out =
        checks.routing(result, logits.rows(), moe.topK(), moe.experts(), "the routing");
    checks.that(logits.wide(), () -> "router logits must be float32");
    int rows = stream.launchRows(logits.rows());
    if (rows == 0) {
      return;
    }
    boolean few = rows <= FEW_ROWS;
    Launch launch =
        stream
            .launch(few ? routeFew : routeRows)
            .pointer(logits.address())
            .int32(logits.stride())
            .int32(rows)
            .pointer(rowCount)
            .int32(moe.experts())
            .int32(moe.topK())
            .int32(moe.softmaxFirst() ? 1 : 0)
            .int32(moe.normalise() ? 1 : 0)
            .pointer(out.choices())
            .pointer(out.weights());
    if (few) {
      RoutingPlan plan = out.plan();
      launch
          .pointer(plan.starts())
          .pointer(plan.sorted())
          .pointer(plan.active())
          .grid(1)
          .block(routeFewThreads(rows, moe.topK()));
    } else {
      launch.grid(Math.ceilDiv(rows, ROUTE_ROWS)).block(ROUTE_THREADS);
    }
    launch.dependent().go();
    out.plan().madeFor(few ? out.rows() : -1);
  }

  /**
   * The router's product and the choice in one kernel, if there are few rows and clusters.
   *
   * @param rowCount as above
   * @return whether it was done
   */
  boolean route(Router chosenBy, Tensor in, Routing result, long rowCount) {
    ModelSpec.Moe moe = chosenBy.moe();
    if (!isFused(chosenBy, in.rows())) {
      return false;
    }
    CudaTensor x = checks.tensor(in, "x");
    CudaProjection router = projection(chosenBy, x);
    CudaRouting out = checks.routing(result, x.rows(), moe.topK(), moe.experts(), "the routing");
    Launch launch =
        stream
            .launch(routeFrom)
            .pointer(x.address())
            .int64(x.stride())
            .block(ROUTER_THREADS)
            .shared(ROUTER_SHARED);
    choose(launch, router, x.rows(), moe, out, rowCount);
    return true;
  }

  /**
   * The same after the norm that makes the router's input, for very few rows.
   *
   * @param norm whose result the router's input is
   * @param rowCount as above
   * @return whether it was done
   */
  boolean addNormRoute(AddedNorm norm, Router chosenBy, Routing result, long rowCount) {
    ModelSpec.Moe moe = chosenBy.moe();
    CudaTensor x = norm.out();
    int rows = stream.launchRows(x.rows());
    if (rows > NORM_ROUTER_ROWS || !isFused(chosenBy, x.rows())) {
      return false;
    }
    CudaProjection router = projection(chosenBy, x);
    CudaRouting out = checks.routing(result, x.rows(), moe.topK(), moe.experts(), "the routing");
    int row = (router.shape().paddedIn() + NORM_ROW_PADDING) * x.elementBytes();
    Launch launch =
        stream
            .launch(normRoute)
            .tensor(norm.x())
            .tensor(norm.y())
            .pointer(norm.weight().address())
            .int32(x.cols())
            .float32(norm.eps())
            .pointer(x.address())
            .int64(x.stride())
            .block(NORM_ROUTER_THREADS)
            .shared(NORM_ROUTER_SHARED + rows * row);
    choose(launch, router, x.rows(), moe, out, rowCount);
    return true;
  }

  private boolean isFused(Router router, int inRows) {
    ModelSpec.Moe moe = router.moe();
    int rows = stream.launchRows(inRows);
    return router.projection() instanceof CudaProjection
        && rows > 0
        && rows <= FEW_ROWS
        && rows * moe.topK() <= ROUTER_THREADS
        && Math.ceilDiv(moe.experts(), ROUTER_FEATURES) <= MAX_CLUSTER
        && stream.device().hopper();
  }

  private CudaProjection projection(Router router, CudaTensor x) {
    int experts = router.moe().experts();
    CudaProjection projection = (CudaProjection) router.projection();
    checks.owned(projection.owner(), "the router");
    checks.that(
        projection.outputs() == 1 && projection.out(0) == experts,
        () -> "the router has other outputs than %d experts".formatted(experts));
    checks.tensor(x, x.rows(), projection.in(), "x");
    checks.that(!x.wide(), () -> "x is float32, but products take bf16");
    return projection;
  }

  /** Completes a launch whose arguments so far say what the router's input is. */
  private void choose(
      Launch launch,
      CudaProjection router,
      int rows,
      ModelSpec.Moe moe,
      CudaRouting out,
      long rowCount) {
    int blocks = Math.ceilDiv(moe.experts(), ROUTER_FEATURES);
    RoutingPlan plan = out.plan();
    launch
        .int32(stream.launchRows(rows))
        .pointer(router.weights())
        .pointer(router.biases())
        .int32(router.shape().paddedIn())
        .pointer(rowCount)
        .int32(moe.experts())
        .int32(moe.topK())
        .int32(moe.softmaxFirst() ? 1 : 0)
        .int32(moe.normalise() ? 1 : 0)
        .pointer(out.choices())
        .pointer(out.weights())
        .pointer(plan.starts())
        .pointer(plan.sorted())
        .pointer(plan.active())
        .grid(blocks)
        .cluster(blocks)
        .dependent()
        .go();
    plan.madeFor(out.rows());
  }

  /** A thread per routed row and per expert, and a warp per row as far as a block has them. */
  private static int routeFewThreads(int rows, int topK) {
    int needed = Math.max(MAX_EXPERTS, Math.ceilDiv(rows * topK, 32) * 32);
    return Math.max(needed, Math.min(PLAN_THREADS, rows * 32));
  }

  /** Makes a routing's plan, unless it has one for its rows. */
  void plan(CudaRouting routing) {
    RoutingPlan plan = routing.plan();
    if (plan.rows() == routing.rows()) {
      return;
    }
    int routed = stream.launchRows(routing.rows()) * routing.topK();
    stream
        .launch(planCount)
        .pointer(routing.choices())
        .int32(routed)
        .int32(routing.experts())
        .pointer(plan.counts())
        .grid(RoutingPlan.blocks(routed))
        .block(PLAN_THREADS)
        .dependent()
        .go();
    stream
        .launch(planFill)
        .pointer(routing.choices())
        .int32(routed)
        .pointer(plan.counts())
        .int32(routing.experts())
        .pointer(plan.starts())
        .pointer(plan.sorted())
        .pointer(plan.active())
        .grid(RoutingPlan.blocks(routed))
        .block(PLAN_THREADS)
        .dependent()
        .go();
    plan.madeFor(routing.rows());
  }
}
