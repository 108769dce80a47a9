package io.infinilora.model;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;
import java.util.List;

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
 * @param lastNormed the same after the final norm
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
    Tensor lastNormed,
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
    List<Tensor> qkv =
        backend.tensors(rows, attention.qWidth(), attention.kvWidth(), attention.kvWidth());
    List<Tensor> gateUp = backend.tensors(mlpRows, intermediate, intermediate);
    return new Workspace(
        backend.wideTensor(rows, spec.hidden()),
        backend.tensor(rows, spec.hidden()),
        backend.tensor(rows, spec.hidden()),
        qkv.get(0),
        qkv.get(1),
        qkv.get(2),
        backend.tensor(rows, attention.qWidth()),
        gateUp.get(0),
        gateUp.get(1),
        moe == null ? null : backend.wideTensor(rows, moe.experts()),
        moe == null ? null : backend.routing(rows, moe.topK(), moe.experts()),
        backend.wideTensor(logitRows, spec.hidden()),
        backend.tensor(logitRows, spec.hidden()),
        backend.wideTensor(logitRows, spec.vocab()));
  }

  /** Most rows whose logits are computed at once. */
  public int logitCapacity() {
    return logits.rows();
  }
}
