package io.infinilora.model;

import io.infinilora.backend.NormParams;
import io.infinilora.backend.OpStream;

/** The feed-forward half of a layer. */
interface MlpBlock {

  /**
   * Adds what the block before has given, computes this one with its LoRA sites, and adds its
   * result.
   *
   * @param layer for the LoRA port
   * @param stream holds the result of the block before; afterwards its residual is complete, and it
   *     holds the input of the block after it
   * @param norm of this block's input
   * @param next of the next block's input; null if there is none
   */
  void forward(
      int layer,
      ResidualStream stream,
      NormParams norm,
      NormParams next,
      Workspace workspace,
      LoraPort lora,
      OpStream ops);

  /** Bytes of weights that one row needs. */
  long bytesPerRow();
}
