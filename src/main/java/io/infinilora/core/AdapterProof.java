package io.infinilora.core;

import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalDouble;

/**
 * What loading an adapter has shown.
 *
 * @param status what it is and where it lies
 * @param norms what it changes, by layer, then target
 * @param logprobChange largest difference that it makes to the log-probability of a token, of those
 *     that are seen along a fixed prompt; empty if that was not tried
 */
public record AdapterProof(
    AdapterStatus status, List<DeltaNorm> norms, OptionalDouble logprobChange) {

  /** Copies the list. */
  public AdapterProof {
    norms = List.copyOf(norms);
  }

  /** Tensors that found their place in the model, by the projection that they change. */
  public Map<LoraTarget, Integer> tensors() {
    Map<LoraTarget, Integer> tensors = new EnumMap<>(LoraTarget.class);
    norms.forEach(n -> tensors.merge(n.target(), 2 * n.pairs(), Integer::sum));
    return tensors;
  }
}
