package io.infinilora.scheduler;

import io.infinilora.config.SchedulerConfig;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/**
 * Makes up one step: who decodes, who computes which chunk of a prompt, who is admitted, and who is
 * preempted to make room. Running sequences whose adapter is not ready are <i>paused</i>: they keep
 * their blocks until somebody else needs them.
 */
final class StepPlanner {
  private final SchedulerConfig config;
  private final SchedulingPolicy policy;
  private final AdapterGate gate;
  private final BlockTables tables;
  private final Roster roster;

  StepPlanner(
      SchedulerConfig config,
      SchedulingPolicy policy,
      AdapterGate gate,
      BlockTables tables,
      Roster roster) {
    this.config = config;
    this.policy = policy;
    this.gate = gate;
    this.tables = tables;
    this.roster = roster;
  }

  /** Slices of the next step, their blocks allocated; empty only if nobody's adapter is ready. */
  List<StepPlan.Slice> plan() {
    List<StepPlan.Slice> slices = new ArrayList<>();
    boolean preempted = planDecodes(slices);
    // Who was just preempted would take the very blocks that the decodes need.
    planPrompts(slices, !preempted);
    // Blocks that a prompt counted on may have been used while it was paused. Where several such
    // prompts hold each other up, the one admitted first goes on.
    while (slices.isEmpty() && roster.running().stream().anyMatch(gate::admits)) {
      preempt(victim());
      planPrompts(slices, false);
    }
    if (slices.isEmpty()) {
      checkNobodyIsForgotten();
    }
    return slices;
  }

  /** Plans a row for every sequence that lacks one token; says whether anyone was preempted. */
  private boolean planDecodes(List<StepPlan.Slice> slices) {
    boolean preempted = false;
    for (Sequence sequence : List.copyOf(roster.running())) {
      if (!gate.admits(sequence) || sequence.pending() != 1) {
        continue;
      }
      // One admitted earlier may preempt it, and it itself.
      while (isRunning(sequence) && !tables.extend(sequence, sequence.length())) {
        preempt(victim());
        preempted = true;
      }
      if (isRunning(sequence)) {
        slices.add(slice(sequence, 1));
      }
    }
    return preempted;
  }

  /** Plans chunks of running and, if allowed, new sequences within what is left of the budget. */
  private void planPrompts(List<StepPlan.Slice> slices, boolean admitting) {
    List<Sequence> prefilling = new ArrayList<>(roster.running());
    prefilling.removeIf(sequence -> !gate.admits(sequence) || sequence.pending() <= 1);
    List<Sequence> candidates = new ArrayList<>(roster.waiting());
    candidates.removeIf(sequence -> !gate.admits(sequence));
    List<Sequence> backlog = new ArrayList<>(prefilling);
    backlog.addAll(candidates);
    policy.begin(backlog);
    int left = config.maxBatchedTokens() - slices.size();
    boolean closed = !admitting;
    while (left > 0) {
      if (closed || !hasPlace()) {
        candidates.clear();
      }
      if (prefilling.isEmpty() && candidates.isEmpty()) {
        return;
      }
      Sequence chosen =
          policy.select(
              Collections.unmodifiableList(prefilling), Collections.unmodifiableList(candidates));
      if (prefilling.remove(chosen)) {
        left -= planChunk(slices, chosen, left);
      } else if (!candidates.contains(chosen)) {
        throw new IllegalStateException("the policy chose " + chosen + ", who is no candidate");
      } else if (admit(chosen, candidates)) {
        candidates.remove(chosen);
        left -= planChunk(slices, chosen, left);
      } else {
        closed = true;
      }
    }
  }

  private int planChunk(List<StepPlan.Slice> slices, Sequence sequence, int budget) {
    int count = Math.min(sequence.pending(), Math.min(config.prefillChunk(), budget));
    List<Sequence> paused = paused();
    while (tables.reach(sequence) < sequence.computed() + count && !paused.isEmpty()) {
      preempt(paused.removeLast());
    }
    count = Math.min(count, tables.reach(sequence) - sequence.computed());
    if (count > 0) {
      tables.extend(sequence, sequence.computed() + count);
      slices.add(slice(sequence, count));
    }
    return count;
  }

  /** Admits a sequence if there is room for it; paused ones are preempted only if that helps. */
  private boolean admit(Sequence sequence, List<Sequence> candidates) {
    List<PrefixCache.Node> match = tables.match(sequence);
    List<Sequence> paused = paused();
    // All known tokens must fit beside what running prompts still need. On the first chunk's
    // blocks alone, long prompts would start together and block or preempt each other. This way
    // only decodes, and prompts that were paused, take blocks that were counted on.
    int promised = promised();
    if (!tables.fits(sequence, match, promised, paused)) {
      return false;
    }
    while (roster.running().size() >= config.maxRunning()
        || !tables.fits(sequence, match, promised, List.of())) {
      preempt(paused.removeLast());
    }
    roster.admit(sequence, candidates);
    tables.adopt(sequence, match);
    return true;
  }

  /** Whether one more may run; paused sequences make room. */
  private boolean hasPlace() {
    return roster.running().stream().filter(gate::admits).count() < config.maxRunning();
  }

  /** Blocks that running sequences still need for tokens they already have. */
  private int promised() {
    return roster.running().stream()
        .filter(gate::admits)
        .mapToInt(sequence -> Math.max(0, tables.missing(sequence)))
        .sum();
  }

  private List<Sequence> paused() {
    List<Sequence> paused = new ArrayList<>(roster.running());
    paused.removeIf(gate::admits);
    return paused;
  }

  /** Who gives its blocks up: the paused one admitted last, or else simply that. */
  private Sequence victim() {
    List<Sequence> paused = paused();
    return paused.isEmpty() ? roster.running().getLast() : paused.getLast();
  }

  private void preempt(Sequence sequence) {
    tables.release(sequence);
    roster.preempt(sequence);
  }

  private StepPlan.Slice slice(Sequence sequence, int count) {
    int first = sequence.computed();
    int end = first + count;
    charge(sequence, end);
    return new StepPlan.Slice(
        sequence,
        first,
        sequence.tokens(first, end),
        end == sequence.length(),
        sequence.blockTable());
  }

  private void charge(Sequence sequence, int end) {
    int from = Math.max(sequence.computed(), sequence.charged());
    if (end > from) {
      int prompt = Math.max(0, Math.min(end, sequence.promptLength()) - from);
      policy.served(sequence, prompt, end - from - prompt);
      sequence.charged(end);
    }
  }

  private static boolean isRunning(Sequence sequence) {
    return sequence.state() == Sequence.State.RUNNING;
  }

  private void checkNobodyIsForgotten() {
    if (roster.running().stream().anyMatch(gate::admits)
        || roster.waiting().stream().anyMatch(gate::admits)) {
      throw new IllegalStateException(
          "none of these can go on: %s, %s".formatted(roster.running(), roster.waiting()));
    }
  }
}
