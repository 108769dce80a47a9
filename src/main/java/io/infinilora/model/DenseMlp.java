package io.infinilora.model;

import io.infinilora.backend.NormParams;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Projection;
import io.infinilora.backend.Tensor;
import io.infinilora.core.Activation;
import io.infinilora.core.LoraSite;

/**
 * {@code down(activation(gate x, up x))}.
 *
 * @param gateUp gate and up, which share their input
 * @param down down
 * @param activation what joins gate and up
 */
record DenseMlp(Projection gateUp, Projection down, Activation activation) implements MlpBlock {

  @Override
  public void forward(
      int layer,
      ResidualStream stream,
      NormParams norm,
      NormParams next,
      Workspace workspace,
      LoraPort lora,
      OpStream ops) {
    stream.add(norm, ops);
    Tensor x = stream.normed();
    Tensor out = stream.blockOut();
    Tensor gate = workspace.gate().first(x.rows());
    Tensor up = workspace.up().first(x.rows());
    lora.publish(layer, LoraSite.MLP_IN, x);
    ops.project(gateUp, x, gate, up);
    lora.join(layer, LoraSite.MLP_IN, x, gate, up);
    ops.gatedActivation(activation, gate, up, gate);
    lora.publish(layer, LoraSite.MLP_OUT, gate);
    ops.project(down, gate, out);
    lora.join(layer, LoraSite.MLP_OUT, gate, out);
    stream.add(next, ops);
  }

  @Override
  public long bytesPerRow() {
    return gateUp.bytes() + down.bytes();
  }
}
