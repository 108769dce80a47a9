package io.infinilora.backend.cpu;

import java.util.Arrays;

/**
 * One adapter's pairs of all experts at one routed site.
 *
 * @param experts per expert a pair per target, or null for an absent expert; shared, not to be
 *     written
 * @param outs output features per target; 0 if no expert has it
 * @param in input features of all pairs
 * @param bytes that the matrices take
 */
record ExpertPairs(LoraPair[][] experts, int[] outs, int in, long bytes) {

  ExpertPairs resolved(PageTable table) {
    LoraPair[][] resolved = new LoraPair[experts.length][];
    for (int e = 0; e < experts.length; e++) {
      if (experts[e] != null) {
        resolved[e] = Arrays.stream(experts[e]).map(table::resolve).toArray(LoraPair[]::new);
      }
    }
    return new ExpertPairs(resolved, outs, in, bytes);
  }
}
