package io.infinilora.scheduler;

import java.util.Arrays;
import java.util.List;

/** Runs steps without a model, and shows plans as text. */
final class Steps {
  /** What every sample is. */
  static final int TOKEN = 99;

  private Steps() {}

  /** Plans and completes a step. */
  static StepPlan step(Scheduler scheduler) {
    StepPlan plan = scheduler.next().orElseThrow();
    complete(scheduler, plan);
    return plan;
  }

  static List<Outcome> complete(Scheduler scheduler, StepPlan plan) {
    int[] sampled = new int[plan.samples().size()];
    Arrays.fill(sampled, TOKEN);
    return scheduler.complete(plan, sampled);
  }

  /** One text per slice: {@code "id first+count"}, and whether it is sampled. */
  static List<String> shape(StepPlan plan) {
    return plan.slices().stream()
        .map(
            s ->
                "%s %d+%d%s"
                    .formatted(
                        s.sequence().id(), s.first(), s.count(), s.sampled() ? " sampled" : ""))
        .toList();
  }
}
