package io.infinilora.engine;

import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.SampleRow;
import java.util.List;

/**
 * Everything that the driver thread needs for one step, cut loose from the scheduler's mutable
 * state.
 *
 * @param batch rows; its logit rows are those to sample, in the order of {@code samples}
 * @param samples how to sample them
 * @param observed prompt rows whose logits somebody wants to see
 * @param lora the announced LoRA work
 */
record StepTask(
    BatchLayout batch,
    List<SampleRow> samples,
    List<ObservedRows> observed,
    LoraRuntime.Step lora) {

  /**
   * Consecutive prompt rows of one request.
   *
   * @param observer who wants their logits
   * @param firstRow row of the step
   * @param firstPosition position in the prompt of that row
   * @param count number of rows
   */
  record ObservedRows(PromptObserver observer, int firstRow, int firstPosition, int count) {}
}
