package io.infinilora.simulator;

import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import io.infinilora.scheduler.Outcome;
import io.infinilora.scheduler.Scheduler;
import io.infinilora.scheduler.Sequence;
import io.infinilora.scheduler.StepPlan;
import io.infinilora.simulator.Workload.Arrival;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * One scheduler, driven by arrivals on a virtual clock. Requests that arrive during a step are
 * queued when it ends. Each generates as many tokens as its lengths say, or ends with the context;
 * the scheduler knows a common limit only.
 */
public final class Simulation {
  private static final int EOS = 0;
  private static final int TOKEN = 1;

  private final Scheduler scheduler;
  private final StepCost cost;
  private final int maxTokens;
  private final Map<Sequence, Progress> inFlight = new HashMap<>();
  private double now;

  /** A request on its way. */
  private static final class Progress {
    final Arrival arrival;
    double started = Double.NaN;
    double firstToken = Double.NaN;

    Progress(Arrival arrival) {
      this.arrival = arrival;
    }
  }

  private Simulation(SchedulerConfig config, StepCost cost, int maxTokens) {
    this.scheduler = new Scheduler(config);
    this.cost = cost;
    this.maxTokens = maxTokens;
  }

  /**
   * Runs until every request has ended.
   *
   * @param arrivals in order of arrival
   * @param maxTokens what every request gives as its limit; at least as many as any generates
   */
  public static SimulationResult run(
      SchedulerConfig config, StepCost cost, int maxTokens, List<Arrival> arrivals) {
    return new Simulation(config, cost, maxTokens).run(arrivals);
  }

  private SimulationResult run(List<Arrival> arrivals) {
    List<SimulationResult.Served> served = new ArrayList<>();
    List<Arrival> refused = new ArrayList<>();
    int next = 0;
    while (next < arrivals.size() || scheduler.hasWork()) {
      for (; next < arrivals.size() && arrivals.get(next).seconds() <= now; next++) {
        if (!add("r" + next, arrivals.get(next))) {
          refused.add(arrivals.get(next));
        }
      }
      Optional<StepPlan> plan = scheduler.next();
      if (plan.isPresent()) {
        step(plan.get(), served);
      } else if (next < arrivals.size()) {
        now = arrivals.get(next).seconds();
      }
    }
    return new SimulationResult(served, refused, now);
  }

  private boolean add(String id, Arrival arrival) {
    String adapter = "adapter" + arrival.adapter();
    Sequence sequence =
        new Sequence(
            new GenerateRequest(
                id,
                new int[arrival.lengths().prompt()],
                Optional.of(adapter),
                SamplingParams.greedy(maxTokens)),
            Optional.of(new AdapterId(adapter, "")),
            Set.of(EOS));
    try {
      scheduler.add(sequence);
    } catch (InfiniLoraException e) {
      if (e.code() == ErrorCode.OVERLOADED) {
        return false;
      }
      throw e;
    }
    inFlight.put(sequence, new Progress(arrival));
    return true;
  }

  private void step(StepPlan plan, List<SimulationResult.Served> served) {
    for (StepPlan.Slice slice : plan.slices()) {
      Progress progress = inFlight.get(slice.sequence());
      if (Double.isNaN(progress.started)) {
        progress.started = now;
      }
    }
    now += cost.seconds(plan);
    int[] sampled =
        plan.samples().stream()
            .mapToInt(
                sequence ->
                    sequence.outputLength() == inFlight.get(sequence).arrival.lengths().output()
                        ? EOS
                        : TOKEN)
            .toArray();
    for (Outcome outcome : scheduler.complete(plan, sampled)) {
      Progress progress = inFlight.get(outcome.sequence());
      if (outcome.index() == 0) {
        progress.firstToken = now;
      }
      if (outcome.finish() != null) {
        inFlight.remove(outcome.sequence());
        served.add(
            new SimulationResult.Served(
                progress.arrival, progress.started, progress.firstToken, now));
      }
    }
  }
}
