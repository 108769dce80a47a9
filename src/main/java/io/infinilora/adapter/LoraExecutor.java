package io.infinilora.adapter;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraSite;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;

/**
 * Computes the low-rank products of one step, site by site. The coupled mode and the LoRA Server
 * both use this, so they differ only in where it runs. Driver thread.
 */
public final class LoraExecutor {
  private final ResidentAdapter[] adapters;
  private final RowGroups groups;
  private final OpStream ops;
  private final long deadlineNanos;
  private int readyLayer = -1;

  /**
   * An executor for one step.
   *
   * @param adapters of each group
   * @param groups rows by adapter
   * @param deadlineNanos {@link System#nanoTime} at which to give up on a layer that is loading
   */
  public LoraExecutor(
      ResidentAdapter[] adapters, RowGroups groups, OpStream ops, long deadlineNanos) {
    this.adapters = adapters;
    this.groups = groups;
    this.ops = ops;
    this.deadlineNanos = deadlineNanos;
  }

  /** Waits until the layer of every adapter is in device memory; at once if they are. */
  private void awaitLayer(int layer) {
    if (layer <= readyLayer) {
      return;
    }
    for (ResidentAdapter adapter : adapters) {
      if (!ops.await(adapter.ready(), adapter.readyValue(layer), deadlineNanos)) {
        throw new InfiniLoraException(
            ErrorCode.DEADLINE_EXCEEDED,
            "layer %d of adapter %s was not loaded before the step's deadline"
                .formatted(layer, adapter.generation().id().name()));
      }
      adapter.requireLoads();
    }
    readyLayer = layer;
  }

  /**
   * Whether an adapter of the step has weights at a site.
   *
   * @throws io.infinilora.core.AdapterLoadException at once if a layer cannot be loaded
   * @throws InfiniLoraException DEADLINE_EXCEEDED if a layer is not loaded in time
   */
  public boolean takesPart(int layer, LoraSite site) {
    awaitLayer(layer);
    for (ResidentAdapter adapter : adapters) {
      if (adapter.weights(layer, site) != null || adapter.expertWeights(layer, site) != null) {
        return true;
      }
    }
    return false;
  }

  /**
   * Adds each row's deltas to {@code outs}; does nothing for adapters that leave the site alone.
   *
   * @param x {@code [rows, in]}
   * @param outs one per target of the site, {@code [rows, out]}; null where no adapter of the step
   *     has the target
   * @throws io.infinilora.core.AdapterLoadException at once if a layer cannot be loaded
   * @throws InfiniLoraException DEADLINE_EXCEEDED if a layer is not loaded in time
   */
  public void add(int layer, LoraSite site, Tensor x, Tensor... outs) {
    awaitLayer(layer);
    List<LoraWeights> weights = new ArrayList<>(adapters.length);
    for (ResidentAdapter adapter : adapters) {
      weights.add(adapter.weights(layer, site));
    }
    if (weights.stream().anyMatch(Objects::nonNull)) {
      ops.loraAdd(groups, weights, x, outs);
    }
  }

  /**
   * The same at a site with experts: a delta per row and choice at {@code MLP_IN}; at {@code
   * MLP_OUT} their weighted sum, or the terms of that sum.
   *
   * @param x {@code [rows, in]} at {@code MLP_IN}, {@code [rows * topK, in]} at {@code MLP_OUT}
   * @param routing the rows' experts
   * @param terms whether {@code MLP_OUT} has a row per choice, to be summed by somebody else
   * @param outs one per target of the site, {@code [rows * topK, out]}, or {@code [rows, out]} for
   *     a sum; null where no adapter of the step has the target
   */
  public void addRouted(
      int layer, LoraSite site, Tensor x, Routing routing, boolean terms, Tensor... outs) {
    awaitLayer(layer);
    List<ExpertLoraWeights> weights = new ArrayList<>(adapters.length);
    for (ResidentAdapter adapter : adapters) {
      weights.add(adapter.expertWeights(layer, site));
    }
    if (weights.stream().noneMatch(Objects::nonNull)) {
      return;
    }
    if (site == LoraSite.MLP_IN) {
      ops.expertLoraAdd(groups, weights, routing, x, outs);
    } else if (terms) {
      ops.expertLoraTerms(groups, weights, routing, x, outs[0]);
    } else {
      ops.expertLoraCombine(groups, weights, routing, x, outs[0]);
    }
  }
}
