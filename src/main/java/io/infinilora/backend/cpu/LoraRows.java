package io.infinilora.backend.cpu;

import java.util.List;

/**
 * Matrix A of a low-rank pair, {@code [rank, in]}. Rows are padded with zeros to whole steps of the
 * dot product, and their number to a multiple of {@link LoraKernels#RANKS}.
 *
 * @param brain whether elements are bfloat16, float32 otherwise
 * @param runs all of it, by row, then step
 */
record LoraRows(int rank, boolean brain, List<Run> runs) {

  /** Where it begins, which no other does. */
  long address() {
    return runs.getFirst().address();
  }

  /**
   * Neighbours in memory: some steps of some rows, a row's steps adjacent. A run that has not all
   * steps has {@link LoraKernels#RANKS} rows, and the runs behind it have their other steps.
   *
   * @param address the first row's first step
   * @param rank first row
   * @param ranks number of rows, a multiple of {@link LoraKernels#RANKS}
   * @param step first step
   * @param steps number of steps
   */
  record Run(long address, int rank, int ranks, int step, int steps) {

    Run at(long address) {
      return new Run(address, rank, ranks, step, steps);
    }
  }
}
