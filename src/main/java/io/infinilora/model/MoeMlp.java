package io.infinilora.model;

import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.NormParams;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Router;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.core.Activation;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;

/**
 * Routed experts: {@code sum_j w_j down_e(activation(gate_e x, up_e x))} over the chosen experts e
 * of a row with their weights w.
 *
 * @param router chooses the experts
 * @param gateUp gate and up of all experts, which share their input
 * @param down down of all experts
 * @param activation what joins gate and up
 */
record MoeMlp(Router router, ExpertProjection gateUp, ExpertProjection down, Activation activation)
    implements MlpBlock {

  @Override
  public void forward(
      int layer,
      ResidualStream stream,
      NormParams norm,
      NormParams next,
      Workspace workspace,
      LoraPort lora,
      OpStream ops) {
    Tensor x = stream.normed();
    Tensor out = stream.blockOut();
    Tensor logits = workspace.routerLogits().first(x.rows());
    Routing routing = workspace.routing().first(x.rows());
    Tensor gate = workspace.gate().first(x.rows() * routing.topK());
    Tensor up = workspace.up().first(x.rows() * routing.topK());
    ops.addNormRoute(out, stream.residual(), norm, x, router, logits, routing);
    lora.publishRouted(layer, LoraSite.MLP_IN, x, routing);
    ops.expertProject(gateUp, routing, x, gate, up);
    lora.joinRouted(layer, LoraSite.MLP_IN, x, routing, gate, up);
    if (!lora.reads(layer, LoraSite.MLP_OUT)) {
      if (next != null) {
        ops.expertCombineAddNorm(
            activation, gate, up, down, routing, out, stream.residual(), next, x);
      } else {
        ops.expertCombine(activation, down, routing, gate, up, out);
        stream.add(null, ops);
      }
      return;
    }
    ops.gatedActivation(activation, gate, up, gate);
    lora.publishRouted(layer, LoraSite.MLP_OUT, gate, routing);
    ops.expertCombine(down, routing, gate, out);
    lora.joinRouted(layer, LoraSite.MLP_OUT, gate, routing, out);
    stream.add(next, ops);
  }

  @Override
  public long bytesPerRow() {
    ModelSpec.Moe moe = router.moe();
    return router.projection().bytes()
        + (gateUp.bytes() + down.bytes()) / moe.experts() * moe.topK();
  }
}
