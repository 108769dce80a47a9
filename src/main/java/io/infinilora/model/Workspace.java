package io.infinilora.model;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;

/**
 * Activation buffers of one base-model instance, made once for the largest step.
 *
 * @param residual the residual stream, {@code [rows, hidden]}
 * @param normed input of a block, {@code [rows, hidden]}
 * @param blockOut output of a block before the residual, {@code [rows, hidden]}
 * @param q queries
 * @param k keys
 * @param v values
 * @param attended attention output, like q
 * @param gate gate projection and gated activation, per row and chosen expert
 * @param up up projection, likewise
 * @param routerLogits logits of the experts, {@code [rows, experts]}; null without experts
 * @param routing the chosen experts; null without experts
 * @param lastRows rows whose logits are wanted, {@code [logitRows, hidden]}
 * @param logits {@code [logitRows, vocab]}
 */
public record Workspace(
    Tensor residual,
    Tensor normed,
    Tensor blockOut,
    Tensor q,
    Tensor k,
    Tensor v,
    Tensor attended,
    Tensor gate,
    Tensor up,
    Tensor routerLogits,
    Routing routing,
    Tensor lastRows,
    Tensor logits) {

  /**
   * Allocates for steps of at most {@code rows} rows.
   *
   * @param logitRows most rows whose logits are computed at once
   */
  public static Workspace allocate(Backend backend, ModelSpec spec, int rows, int logitRows) {
    ModelSpec.Attention attention = spec.attention();
    int intermediate = spec.mlp().intermediate();
    ModelSpec.Moe moe = spec.mlp().moe();
    int mlpRows = rows * spec.inRows(LoraSite.MLP_OUT);
    return new Workspace(
        backend.tensor(rows, spec.hidden()),
        backend.tensor(rows, spec.hidden()),
        backend.tensor(rows, spec.hidden()),
        backend.tensor(rows, attention.qWidth()),
        backend.tensor(rows, attention.kvWidth()),
        backend.tensor(rows, attention.kvWidth()),
        backend.tensor(rows, attention.qWidth()),
        backend.tensor(mlpRows, intermediate),
        backend.tensor(mlpRows, intermediate),
        moe == null ? null : backend.tensor(rows, moe.experts()),
        moe == null ? null : backend.routing(rows, moe.topK(), moe.experts()),
        backend.tensor(logitRows, spec.hidden()),
        backend.tensor(logitRows, spec.vocab()));
  }

  /** Most rows whose logits are computed at once. */
  public int logitCapacity() {
    return logits.rows();
  }
}
