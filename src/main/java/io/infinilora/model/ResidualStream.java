package io.infinilora.model;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.core.ModelSpec;

/**
 * What passes between the blocks of a step.
 *
 * @param residual the residual stream, {@code [rows, hidden]}
 * @param normed its norm: a block's input
 * @param blockOut a block's result, not yet added
 * @param norm of which kind
 * @param eps of the norms
 */
record ResidualStream(
    Tensor residual, Tensor normed, Tensor blockOut, ModelSpec.Norm norm, float eps) {

  /**
   * The end of a block: adds its result.
   *
   * @param next norm of the next block's input; null if there is none
   */
  void add(Vec next, OpStream ops) {
    if (next == null) {
      ops.add(blockOut, residual);
    } else {
      ops.addNorm(blockOut, residual, norm, next, eps, normed);
    }
  }
}
