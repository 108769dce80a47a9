package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.RowGroups;
import java.util.List;

/**
 * What must hold before a LoRA kernel may touch memory: the kernels check nothing. All methods
 * throw {@link IllegalArgumentException}.
 */
final class LoraChecks {
  private final CudaChecks checks;

  LoraChecks(CudaChecks checks) {
    this.checks = checks;
  }

  private static void that(boolean condition, String message, Object... arguments) {
    if (!condition) {
      throw new IllegalArgumentException(message.formatted(arguments));
    }
  }

  private static void atMost(long count, int limit, String what) {
    that(count <= limit, "%d %s; the LoRA kernels take at most %d", count, what, limit);
  }

  private static void narrow(CudaTensor tensor, String what) {
    that(!tensor.wide(), "%s is float32, but should be bf16", what);
  }

  /** Dense adapters. */
  void dense(RowGroups groups, List<LoraWeights> weights, CudaTensor x, CudaTensor[] outs) {
    checks.groups(groups, weights.size(), x.rows());
    atMost(x.rows(), LoraTiling.MAX_ROWS, "rows");
    narrow(x, "x");
    that(outs.length <= LoraLayout.MAX_TARGETS, "%d outputs", outs.length);
    for (int g = 0; g < groups.groups(); g++) {
      if (weights.get(g) == null) {
        continue;
      }
      if (!(weights.get(g) instanceof CudaLoraWeights w) || !w.residence().alive()) {
        throw checks.unusable(g);
      }
      checks.owned(w.owner(), "an adapter");
      that(w.targets() == outs.length, "%d targets for %d outputs", w.targets(), outs.length);
      for (int t = 0; t < outs.length; t++) {
        if (w.rank(t) > 0) {
          that(
              w.in() == x.cols()
                  && outs[t] != null
                  && outs[t].rows() == x.rows()
                  && outs[t].cols() == w.outs()[t],
              "target %d of group %d does not fit x or its output",
              t,
              g);
          narrow(outs[t], "an output");
        }
      }
    }
  }

  /**
   * Adapters of routed layers.
   *
   * @param xRows rows that x should have
   * @param outRows rows that the outputs should have
   */
  void routed(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CudaRouting routing,
      CudaTensor x,
      int xRows,
      CudaTensor[] outs,
      int outRows) {
    checks.groups(groups, weights.size(), routing.rows());
    atMost(routing.rows(), LoraTiling.MAX_ROWS, "rows");
    atMost((long) routing.rows() * routing.topK(), LoraTiling.MAX_ROUTED, "routed rows");
    that(x.rows() == xRows, "x %s for routing of %d rows", x.shape(), routing.rows());
    narrow(x, "x");
    that(outs.length <= LoraLayout.MAX_TARGETS, "%d outputs", outs.length);
    for (int g = 0; g < groups.groups(); g++) {
      if (weights.get(g) == null) {
        continue;
      }
      if (!(weights.get(g) instanceof CudaExpertLoraWeights w) || !w.residence().alive()) {
        throw checks.unusable(g);
      }
      checks.owned(w.owner(), "an adapter");
      that(
          w.experts() == routing.experts() && w.targets() == outs.length && w.in() == x.cols(),
          "group %d has %d experts, %d targets, in %d for x %s, %d experts, %d outputs",
          g,
          w.experts(),
          w.targets(),
          w.in(),
          x.shape(),
          routing.experts(),
          outs.length);
      for (int t = 0; t < outs.length; t++) {
        if (w.outs()[t] > 0) {
          that(
              outs[t] != null
                  && outs[t].rows() == outRows
                  && outs[t].cols() == w.outs()[t]
                  && outs[t].address() != x.address(),
              "target %d of group %d does not fit its output",
              t,
              g);
          narrow(outs[t], "an output");
        }
      }
    }
  }
}
