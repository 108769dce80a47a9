package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import java.util.List;

/**
 * The low-rank products of an {@link OpStream}. Inputs and outputs are bf16; a product, and a sum
 * of products, is rounded to bf16 before it is added. Its driver thread only.
 */
final class LoraOps {
  private final CudaChecks checks;
  private final LoraChecks loraChecks;
  private final DenseLora dense;
  private final RoutedLora routed;

  LoraOps(CudaStream stream, CudaChecks checks) {
    this.checks = checks;
    loraChecks = new LoraChecks(checks);
    LoraKernels kernels = new LoraKernels(stream);
    dense = new DenseLora(stream, kernels);
    routed = new RoutedLora(stream, kernels);
  }

  /** See {@link OpStream#loraAdd}. */
  void loraAdd(RowGroups groups, List<LoraWeights> weights, Tensor x, Tensor... outs) {
    CudaTensor in = checks.tensor(x, "loraAdd x");
    CudaTensor[] to = tensors(outs, "loraAdd out");
    loraChecks.dense(groups, weights, in, to);
    dense.add(groups, weights, in, to);
  }

  private CudaTensor[] tensors(Tensor[] outs, String what) {
    CudaTensor[] to = new CudaTensor[outs.length];
    for (int t = 0; t < outs.length; t++) {
      to[t] = outs[t] == null ? null : checks.tensor(outs[t], what);
    }
    return to;
  }

  /** See {@link OpStream#expertLoraAdd}. */
  void expertLoraAdd(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      Routing routing,
      Tensor x,
      Tensor... outs) {
    CudaRouting r = checks.routing(routing, "expertLoraAdd routing");
    CudaTensor in = checks.tensor(x, "expertLoraAdd x");
    CudaTensor[] to = tensors(outs, "expertLoraAdd out");
    loraChecks.routed(groups, weights, r, in, r.rows(), to, r.rows() * r.topK());
    routed.add(groups, weights, r, in, to);
  }

  /** See {@link OpStream#expertLoraCombine}. Terms, too, are rounded to bf16. */
  void expertLoraCombine(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out) {
    CudaRouting r = checks.routing(routing, "expertLoraCombine routing");
    CudaTensor in = checks.tensor(x, "expertLoraCombine x");
    CudaTensor[] to = {checks.tensor(out, "expertLoraCombine out")};
    loraChecks.routed(groups, weights, r, in, r.rows() * r.topK(), to, r.rows());
    routed.combine(groups, weights, r, in, to[0]);
  }

  /** See {@link OpStream#expertLoraTerms}. */
  void expertLoraTerms(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out) {
    CudaRouting r = checks.routing(routing, "expertLoraTerms routing");
    CudaTensor in = checks.tensor(x, "expertLoraTerms x");
    CudaTensor[] to = {checks.tensor(out, "expertLoraTerms out")};
    int terms = r.rows() * r.topK();
    loraChecks.routed(groups, weights, r, in, terms, to, terms);
    routed.terms(groups, weights, r, in, to[0]);
  }
}
