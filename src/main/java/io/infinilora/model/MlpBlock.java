package io.infinilora.model;

import io.infinilora.backend.OpStream;
import io.infinilora.backend.Tensor;

/** The feed-forward half of a layer. */
interface MlpBlock {

  /**
   * Computes the block with its LoRA sites.
   *
   * @param layer for the LoRA port
   * @param x normalised residual stream, {@code [rows, hidden]}
   * @param out result without the residual, {@code [rows, hidden]}; not {@code x}
   */
  void forward(int layer, Tensor x, Tensor out, Workspace workspace, LoraPort lora, OpStream ops);

  /** Bytes of weights that one row needs. */
  long bytesPerRow();
}
