package io.infinilora.engine;

import io.infinilora.adapter.AdapterGroups;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.SampleRow;
import io.infinilora.scheduler.Sequence;
import io.infinilora.scheduler.StepPlan;
import java.util.ArrayList;
import java.util.List;

/** Turns the scheduler's plan into a task for the driver thread. */
final class StepAssembler {
  private static final int[] NO_HISTORY = {};

  private StepAssembler() {}

  /**
   * Assembles and announces a step.
   *
   * @param generations requests in flight; every sequence of the plan has one unless its subscriber
   *     has just left
   * @param deadlineNanos {@link System#nanoTime} at which the step is given up
   */
  static StepTask assemble(
      StepPlan plan,
      Generations generations,
      LoraRuntime lora,
      AdapterLeases leases,
      long deadlineNanos) {
    int rows = plan.rows();
    int[] tokens = new int[rows];
    int[] positions = new int[rows];
    int[] slotOfRow = new int[rows];
    int[] rowStart = new int[plan.slices().size() + 1];
    int[][] blockTables = new int[plan.slices().size()][];
    int[] logitRows = new int[plan.samples().size()];
    List<SampleRow> samples = new ArrayList<>(logitRows.length);
    List<StepTask.ObservedRows> observed = new ArrayList<>(0);
    int row = 0;
    for (int s = 0; s < plan.slices().size(); s++) {
      StepPlan.Slice slice = plan.slices().get(s);
      Generation generation = generations.find(slice.sequence().id());
      rowStart[s] = row;
      blockTables[s] = slice.blockTable();
      observe(slice, generation, row, observed);
      int slot =
          generation == null
              ? AdapterGroups.NO_ADAPTER
              : generation.adapter().map(leases::slot).orElse(AdapterGroups.NO_ADAPTER);
      for (int i = 0; i < slice.count(); i++, row++) {
        tokens[row] = slice.tokens()[i];
        positions[row] = slice.first() + i;
        slotOfRow[row] = slot;
      }
      if (slice.sampled()) {
        logitRows[samples.size()] = row - 1;
        samples.add(sampleRow(slice.sequence()));
      }
    }
    rowStart[plan.slices().size()] = row;
    return new StepTask(
        new BatchLayout(tokens, positions, rowStart, blockTables, logitRows),
        samples,
        observed,
        lora.announce(slotOfRow, deadlineNanos));
  }

  private static void observe(
      StepPlan.Slice slice, Generation generation, int row, List<StepTask.ObservedRows> observed) {
    if (generation != null && generation.observer() != null) {
      int inPrompt = Math.min(slice.count(), slice.sequence().promptLength() - slice.first());
      if (inPrompt > 0) {
        observed.add(
            new StepTask.ObservedRows(generation.observer(), row, slice.first(), inPrompt));
      }
    }
  }

  private static SampleRow sampleRow(Sequence sequence) {
    boolean history = sequence.request().sampling().hasPenalties();
    int length = sequence.length();
    return new SampleRow(
        sequence.request().sampling(),
        sequence.outputLength(),
        history ? sequence.tokens(0, length) : NO_HISTORY,
        sequence.promptLength(),
        history ? length : 0);
  }
}
