package io.infinilora.scheduler;

import io.infinilora.core.AdapterId;
import java.util.List;
import java.util.Set;
import java.util.stream.Collectors;

/**
 * What to compute in one step. Rows of the step are those of the slices, in order: first the
 * sequences that decode, one row each, then chunks of prompts.
 *
 * @param slices at least one; no two of the same sequence
 * @param samples the sequences of the slices that are sampled, in order
 * @param rows total number of rows
 */
public record StepPlan(List<Slice> slices, List<Sequence> samples, int rows) {

  /** Derives samples and rows. */
  StepPlan(List<Slice> slices) {
    this(
        List.copyOf(slices),
        slices.stream().filter(Slice::sampled).map(Slice::sequence).toList(),
        slices.stream().mapToInt(Slice::count).sum());
  }

  /** The adapters of its sequences. */
  public Set<AdapterId> adapters() {
    return slices.stream()
        .flatMap(slice -> slice.sequence().adapter().stream())
        .collect(Collectors.toUnmodifiableSet());
  }

  /**
   * Consecutive positions of one sequence. The arrays are snapshots that stay valid while the step
   * runs and must not be changed.
   *
   * @param sequence whose
   * @param first position of the first row
   * @param tokens token ids of the rows
   * @param sampled whether the next token is sampled from the last row's logits
   * @param blockTable KV blocks of positions {@code 0 .. first + count - 1}
   */
  public record Slice(
      Sequence sequence, int first, int[] tokens, boolean sampled, int[] blockTable) {

    /** Number of rows. */
    public int count() {
      return tokens.length;
    }
  }
}
