package io.infinilora.model;

import io.infinilora.backend.Backend;
import io.infinilora.backend.Tensor;
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
 * @param gate gate projection and gated activation
 * @param up up projection
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
    return new Workspace(
        backend.tensor(rows, spec.hidden()),
        backend.tensor(rows, spec.hidden()),
        backend.tensor(rows, spec.hidden()),
        backend.tensor(rows, attention.qWidth()),
        backend.tensor(rows, attention.kvWidth()),
        backend.tensor(rows, attention.kvWidth()),
        backend.tensor(rows, attention.qWidth()),
        backend.tensor(rows, intermediate),
        backend.tensor(rows, intermediate),
        backend.tensor(logitRows, spec.hidden()),
        backend.tensor(logitRows, spec.vocab()));
  }

  /** Most rows whose logits are computed at once. */
  public int logitCapacity() {
    return logits.rows();
  }
}
