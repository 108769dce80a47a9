package io.infinilora.simulator;

import io.infinilora.scheduler.StepPlan;

/**
 * How long a step takes, in seconds: a fixed part, and one for every row.
 *
 * @param fixed per step
 * @param decode per row of a sequence that decodes
 * @param prefill per row of a prompt
 */
public record StepCost(double fixed, double decode, double prefill) {

  /** Seconds of a plan. */
  public double seconds(StepPlan plan) {
    double seconds = fixed;
    for (StepPlan.Slice slice : plan.slices()) {
      boolean decodes = slice.first() >= slice.sequence().promptLength();
      seconds += slice.count() * (decodes ? decode : prefill);
    }
    return seconds;
  }
}
