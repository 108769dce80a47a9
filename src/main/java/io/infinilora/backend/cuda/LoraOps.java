package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.RowGroups;
import java.util.List;

/** The low-rank products of an {@link OpStream}. Its driver thread only. */
final class LoraOps {
  private final LoraChecks checks;
  private final DenseLora dense;
  private final RoutedLora routed;

  LoraOps(CudaDevice device, CudaStream stream) {
    checks = new LoraChecks(device);
    LoraKernels kernels = new LoraKernels(device, stream);
    dense = new DenseLora(stream, kernels);
    routed = new RoutedLora(stream, kernels);
  }

  /** See {@link OpStream#loraAdd}; x and outputs are bf16. */
  void loraAdd(RowGroups groups, List<LoraWeights> weights, CudaTensor x, CudaTensor... outs) {
    checks.dense(groups, weights, x, outs);
    dense.add(groups, weights, x, outs);
  }

  /** See {@link OpStream#expertLoraAdd}; x and outputs are bf16. */
  void expertLoraAdd(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CudaRouting routing,
      CudaTensor x,
      CudaTensor... outs) {
    int rows = routing.rows();
    checks.routed(groups, weights, routing, x, rows, outs, rows * routing.topK());
    routed.add(groups, weights, routing, x, outs);
  }

  /** See {@link OpStream#expertLoraCombine}; x and out are bf16. Terms are rounded to bf16. */
  void expertLoraCombine(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CudaRouting routing,
      CudaTensor x,
      CudaTensor out) {
    CudaTensor[] outs = {out};
    int rows = routing.rows();
    checks.routed(groups, weights, routing, x, rows * routing.topK(), outs, rows);
    routed.combine(groups, weights, routing, x, out);
  }

  /** See {@link OpStream#expertLoraTerms}; x and out are bf16. */
  void expertLoraTerms(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CudaRouting routing,
      CudaTensor x,
      CudaTensor out) {
    CudaTensor[] outs = {out};
    int terms = routing.rows() * routing.topK();
    checks.routed(groups, weights, routing, x, terms, outs, terms);
    routed.terms(groups, weights, routing, x, out);
  }
}
