package io.infinilora.model;

import io.infinilora.backend.NormParams;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Tensor;

/**
 * What passes between the blocks of a step.
 *
 * @param residual the residual stream, {@code [rows, hidden]}
 * @param normed its norm: a block's input
 * @param blockOut a block's result, not yet added
 */
record ResidualStream(Tensor residual, Tensor normed, Tensor blockOut) {

  /**
   * The end of a block: adds its result.
   *
   * @param next norm of the next block's input; null if there is none
   */
  void add(NormParams next, OpStream ops) {
    if (next == null) {
      ops.add(blockOut, residual);
    } else {
      ops.addNorm(blockOut, residual, next, normed);
    }
  }
}
