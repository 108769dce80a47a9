package io.infinilora.backend.cpu;

import java.util.Arrays;

/**
 * One adapter's pairs at one site.
 *
 * @param pairs one per target; shared, not to be written
 * @param in input features of all pairs; 0 if there is none
 * @param bytes that the matrices take
 */
record DensePairs(LoraPair[] pairs, int in, long bytes) {

  DensePairs resolved(PageTable table) {
    return new DensePairs(
        Arrays.stream(pairs).map(table::resolve).toArray(LoraPair[]::new), in, bytes);
  }
}
