package io.infinilora.weights;

import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.WeightMatrix;

/** How the pair of a module divides among the projections that the module fuses. Copies nothing. */
@FunctionalInterface
interface LoraSplit {

  /** Takes the parts. */
  @FunctionalInterface
  interface Sink {

    /**
     * One projection's pair.
     *
     * @param expert whose projection it is, or {@link AdaptedModule#DENSE}
     */
    void put(LoraTarget target, int expert, LoraFactors pair);
  }

  /**
   * Divides a pair.
   *
   * @param pair A {@code [rank, in]} and B {@code [out, rank]} of the module
   * @param expert the expert that the module belongs to, or {@link AdaptedModule#DENSE}
   */
  void split(LoraFactors pair, int expert, Sink sink);

  /** Both divisions. */
  default LoraSplit and(LoraSplit other) {
    return (pair, expert, sink) -> {
      split(pair, expert, sink);
      other.split(pair, expert, sink);
    };
  }

  /** A module that is one projection. */
  static LoraSplit whole(LoraTarget target) {
    return (pair, expert, sink) -> sink.put(target, expert, pair);
  }

  /** A projection that is every {@code step}-th output of the module, which all share A. */
  static LoraSplit outputs(LoraTarget target, int first, int step, int count) {
    return (pair, expert, sink) -> sink.put(target, expert, outputs(pair, first, step, count));
  }

  /**
   * A parameter {@code [experts * inner, hidden]}, taken as one matrix: the experts share A, and
   * each has its rows of B.
   */
  static LoraSplit flattened(LoraTarget target, int experts, int inner) {
    return (pair, expert, sink) -> {
      for (int e = 0; e < experts; e++) {
        sink.put(target, e, outputs(pair, e * inner, 1, inner));
      }
    };
  }

  /** The same of a parameter whose rows are inputs: B and A change places. */
  static LoraSplit flattenedInputs(LoraTarget target, int experts, int inner) {
    LoraSplit flattened = flattened(target, experts, inner);
    return (pair, expert, sink) ->
        flattened.split(pair, expert, (t, e, part) -> sink.put(t, e, transposed(part)));
  }

  private static LoraFactors outputs(LoraFactors pair, int first, int step, int count) {
    return new LoraFactors(pair.a(), pair.b().rows(first, step, count), pair.scale());
  }

  /** The pair of the transposed matrix. */
  static LoraFactors transposed(LoraFactors pair) {
    WeightMatrix a = pair.b().transposed();
    return new LoraFactors(a, pair.a().transposed(), pair.scale());
  }
}
