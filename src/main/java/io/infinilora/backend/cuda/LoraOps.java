package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import java.util.List;

/** Stub. */
final class LoraOps {
  LoraOps(CudaStream stream, CudaChecks checks) {}

  void loraAdd(RowGroups groups, List<LoraWeights> weights, Tensor x, Tensor... outs) {
    throw new UnsupportedOperationException();
  }

  void expertLoraAdd(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      Routing routing,
      Tensor x,
      Tensor... outs) {
    throw new UnsupportedOperationException();
  }

  void expertLoraCombine(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out) {
    throw new UnsupportedOperationException();
  }

  void expertLoraTerms(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out) {
    throw new UnsupportedOperationException();
  }
}
