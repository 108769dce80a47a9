package io.infinilora.adapter;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.LoraSite;
import java.util.ArrayList;
import java.util.List;

/**
 * Computes the low-rank products of one site for all rows of a step. The coupled mode and the LoRA
 * Server both call this, so they differ only in where it runs.
 */
public final class LoraExecutor {
  private final AdapterStore store;

  /** An executor over the adapters of {@code store}. */
  public LoraExecutor(AdapterStore store) {
    this.store = store;
  }

  /**
   * Adds each row's deltas to {@code outs}; does nothing for adapters that leave the site alone.
   *
   * @param x {@code [rows, in]}
   * @param outs one per target of the site, {@code [rows, out]}; null where no adapter of the step
   *     has the target
   */
  public void add(
      AdapterGroups rows, int layer, LoraSite site, Tensor x, OpStream ops, Tensor... outs) {
    List<LoraWeights> weights = new ArrayList<>(rows.slots().length);
    boolean any = false;
    for (int slot : rows.slots()) {
      LoraWeights w = store.weights(slot, layer, site);
      weights.add(w);
      any |= w != null;
    }
    if (any) {
      ops.loraAdd(rows.groups(), weights, x, outs);
    }
  }

  /**
   * The same at a site with experts: a delta per row and choice at {@code MLP_IN}, their weighted
   * sum at {@code MLP_OUT}.
   *
   * @param x {@code [rows, in]} at {@code MLP_IN}, {@code [rows * topK, in]} at {@code MLP_OUT}
   * @param routing the rows' experts
   * @param outs one per target of the site, {@code [rows * topK, out]} or {@code [rows, out]}; null
   *     where no adapter of the step has the target
   */
  public void addRouted(
      AdapterGroups rows,
      int layer,
      LoraSite site,
      Tensor x,
      Routing routing,
      OpStream ops,
      Tensor... outs) {
    List<ExpertLoraWeights> weights = new ArrayList<>(rows.slots().length);
    boolean any = false;
    for (int slot : rows.slots()) {
      ExpertLoraWeights w = store.expertWeights(slot, layer, site);
      weights.add(w);
      any |= w != null;
    }
    if (!any) {
      return;
    }
    if (site == LoraSite.MLP_OUT) {
      ops.expertLoraCombine(rows.groups(), weights, routing, x, outs[0]);
    } else {
      ops.expertLoraAdd(rows.groups(), weights, routing, x, outs);
    }
  }
}
