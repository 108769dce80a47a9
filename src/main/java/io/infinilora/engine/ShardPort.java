package io.infinilora.engine;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.core.AdapterLoadException;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.model.LoraPort;
import io.infinilora.wire.LoraExchange;

/** The base model's side of one shard during one step. Driver thread only. */
abstract class ShardPort implements LoraPort {
  private static final long LOOK_UP_NANOS = 20_000_000;

  /** What was announced. */
  protected final ShardStep step;

  /** The base's stream. */
  protected final OpStream ops;

  private final ModelSpec spec;
  private final LoraShard shard;
  private final int[] routedRows;

  ShardPort(ModelSpec spec, LoraShard shard, ShardStep step, OpStream ops) {
    this.spec = spec;
    this.shard = shard;
    this.step = step;
    this.ops = ops;
    this.routedRows = routed(step.rows(), spec);
  }

  /** The rows of all choices of {@code rows}, in a tensor with a row per row and choice. */
  private static int[] routed(int[] rows, ModelSpec spec) {
    int topK = spec.inRows(LoraSite.MLP_OUT);
    if (topK == 1) {
      return rows;
    }
    int[] all = new int[rows.length * topK];
    for (int i = 0; i < all.length; i++) {
      all[i] = rows[i / topK] * topK + i % topK;
    }
    return all;
  }

  /** Whether the shard computes something of this site in this step. */
  boolean takesPart(int layer, LoraSite site) {
    return step.sites().contains(site) && shard.holds(spec, layer, site);
  }

  @Override
  public boolean reads(int layer, LoraSite site) {
    return takesPart(layer, site);
  }

  /** Whether the shard answers {@code down} by terms that are not summed yet. */
  boolean terms() {
    return LoraExchange.terms(spec, shard);
  }

  /** The rows of a site's input that go to the shard. */
  protected int[] inRows(LoraSite site) {
    return spec.inRows(site) == 1 ? step.rows() : routedRows;
  }

  /** The rows of a target's output to which deltas are added. */
  protected int[] outRows(LoraTarget target) {
    return spec.outRows(target) == 1 ? step.rows() : routedRows;
  }

  @Override
  public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
    if (takesPart(layer, site)) {
      await(layer, site);
      add(site, outs);
    }
  }

  @Override
  public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
    join(layer, site, x, outs);
  }

  /** Waits for a site's deltas. */
  void await(int layer, LoraSite site) {
    boolean arrived = arrives(LoraExchange.value(spec, step.id(), layer, site));
    InfiniLoraException gone = closedBy();
    if (gone != null) {
      throw LoraSideException.of(gone);
    }
    Throwable failure = failure();
    if (failure instanceof AdapterLoadException load) {
      throw load; // Trying the step again would not help, and others than its users can go on.
    }
    if (failure != null) {
      throw new LoraSideException(
          failure instanceof InfiniLoraException e ? e.code() : ErrorCode.INTERNAL,
          "the LoRA server could not compute this step: " + failure.getMessage(),
          failure);
    }
    if (!arrived) {
      throw new LoraSideException(
          ErrorCode.DEADLINE_EXCEEDED,
          "the LoRA server did not answer for layer %d %s before the step's deadline"
              .formatted(layer, site),
          null);
    }
  }

  /** Waits, but looks up now and then: the shard may be known to be gone. */
  private boolean arrives(long value) {
    long left = LOOK_UP_NANOS;
    while (left > 0 && closedBy() == null) {
      long now = System.nanoTime();
      left = step.deadlineNanos() - now;
      if (ops.await(computed(), value, now + Math.min(left, LOOK_UP_NANOS))) {
        return true;
      }
    }
    return false;
  }

  /** Adds deltas that have come. */
  protected abstract void add(LoraSite site, Tensor... outs);

  /**
   * The terms of {@code down}, once they are there; asked for once per layer. May be changed until
   * the next layer.
   */
  abstract Tensor downTerms();

  /** Adds the sums of terms of {@code down}, of this shard's and others'. */
  void addTerms(Tensor terms, Tensor out) {
    ops.scatterAddTerms(terms, spec.mlp().moe().topK(), step.rows(), out);
  }

  /** Says which deltas have come. */
  protected abstract Signal computed();

  /** Why nothing more will come, or null. */
  protected abstract InfiniLoraException closedBy();

  /** Why the shard gave the step up, or null. */
  protected abstract Throwable failure();
}
