package io.infinilora.scheduler;

import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.InfiniLoraException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Iteration-level batching over paged KV (Yu et al., "Orca", OSDI 2022; Kwon et al.,
 * "PagedAttention", SOSP 2023; chunked prefill after Agrawal et al., "Sarathi-Serve", OSDI 2024).
 *
 * <p>The owner alternates {@link #next} and {@link #complete} (or {@link #rollback}); at most one
 * plan is in flight. {@link #add}, {@link #abort} and {@link #load} may come at any time between.
 *
 * <p>A step holds one token of every sequence that decodes, then chunks of prompts within the token
 * budget, those of running sequences before those of new ones. When blocks run out for a decode,
 * the sequence admitted last gives its blocks up, goes to the head of the queue and is computed
 * again later, prompt and output. The sequence admitted first is never preempted, so there is
 * always progress.
 */
public final class Scheduler {
  private final SchedulerConfig config;
  private final AdmissionPolicy policy;
  private final BlockTables tables;
  private final Map<String, Sequence> byId = new HashMap<>();
  private final List<Sequence> waiting = new ArrayList<>();

  /** In order of admission. */
  private final List<Sequence> running = new ArrayList<>();

  private StepPlan inFlight;

  /** A scheduler that admits first come, first served. */
  public Scheduler(SchedulerConfig config) {
    this(config, AdmissionPolicy.FCFS);
  }

  /** A scheduler with a policy. */
  public Scheduler(SchedulerConfig config, AdmissionPolicy policy) {
    this.config = config;
    this.policy = policy;
    this.tables = new BlockTables(config.kvBlocks(), config.blockSize(), config.prefixCache());
  }

  /** Longest prompt plus output: the configured length, or what the whole KV cache holds. */
  public int contextLength() {
    return (int) Math.min(config.contextLength(), (long) config.kvBlocks() * config.blockSize());
  }

  /**
   * Queues a sequence. It ends at the context's end if its token limit lies beyond.
   *
   * @throws InfiniLoraException {@code OVERLOADED} if the queue is full, {@code
   *     CONTEXT_LENGTH_EXCEEDED} if there is no room for the prompt and one token, {@code
   *     INVALID_REQUEST} if its id is in use
   */
  public void add(Sequence sequence) {
    int prompt = sequence.promptLength();
    if (prompt >= contextLength()) {
      throw new InfiniLoraException(
          ErrorCode.CONTEXT_LENGTH_EXCEEDED,
          "the prompt has %d tokens; with at least one output token it exceeds the context of %d tokens (context length %d, KV cache %d blocks of %d)"
              .formatted(
                  prompt,
                  contextLength(),
                  config.contextLength(),
                  config.kvBlocks(),
                  config.blockSize()));
    }
    if (waiting.size() >= config.maxWaiting()) {
      throw new InfiniLoraException(
          ErrorCode.OVERLOADED,
          "%d requests are waiting already; try again later".formatted(waiting.size()));
    }
    if (byId.putIfAbsent(sequence.id(), sequence) != null) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST, "request id %s is in use".formatted(sequence.id()));
    }
    int room = contextLength() - prompt;
    sequence.limit(prompt + Math.min(room, sequence.request().sampling().maxTokens()));
    waiting.add(sequence);
  }

  /**
   * The next step, or empty if there is nothing to do. Blocks for its rows are allocated.
   *
   * @throws IllegalStateException if a plan is in flight
   */
  public Optional<StepPlan> next() {
    if (inFlight != null) {
      throw new IllegalStateException("a plan is in flight");
    }
    List<StepPlan.Slice> slices = new ArrayList<>();
    boolean preempted = planDecodes(slices);
    int budget = config.maxBatchedTokens() - slices.size();
    budget = planPrefills(slices, budget);
    // Who was just preempted would take the very blocks that the decodes need.
    if (!preempted) {
      admit(slices, budget);
    }
    if (slices.isEmpty()) {
      if (!running.isEmpty()) {
        throw new IllegalStateException("no running sequence can go on: " + running);
      }
      return Optional.empty();
    }
    inFlight = new StepPlan(slices);
    return Optional.of(inFlight);
  }

  /**
   * Takes the results of the plan in flight.
   *
   * @param plan the plan in flight
   * @param sampled the next token of each of {@code plan.samples()}
   * @return one outcome per sampled sequence, in order, without those that were aborted meanwhile;
   *     sequences that finished hold nothing any more
   */
  public List<Outcome> complete(StepPlan plan, int[] sampled) {
    if (sampled.length != plan.samples().size()) {
      throw new IllegalArgumentException(
          "%d tokens for %d samples".formatted(sampled.length, plan.samples().size()));
    }
    land(plan);
    List<Outcome> outcomes = new ArrayList<>(sampled.length);
    int sample = 0;
    for (StepPlan.Slice slice : plan.slices()) {
      Sequence sequence = slice.sequence();
      sequence.computed(slice.first() + slice.count());
      tables.publish(sequence);
      int token = slice.sampled() ? sampled[sample++] : -1;
      if (sequence.state() == Sequence.State.ABORTING) {
        retire(sequence);
      } else if (slice.sampled()) {
        outcomes.add(take(sequence, token));
      }
    }
    return outcomes;
  }

  /**
   * Gives the plan in flight up, whatever part of it was computed. Its sequences stand where they
   * stood before it, and the next plan computes the same positions again.
   */
  public void rollback(StepPlan plan) {
    land(plan);
    for (StepPlan.Slice slice : plan.slices()) {
      Sequence sequence = slice.sequence();
      if (sequence.state() == Sequence.State.ABORTING) {
        retire(sequence);
      } else {
        tables.trim(sequence);
      }
    }
  }

  /**
   * Ends a sequence and frees what it holds: now, or when the plan in flight lands if that one
   * computes it. Its sampled token is dropped then.
   *
   * @return false if no such sequence is waiting or running
   */
  public boolean abort(String id) {
    Sequence sequence = byId.get(id);
    if (sequence == null || sequence.state() == Sequence.State.ABORTING) {
      return false;
    }
    if (isInFlight(sequence)) {
      sequence.state(Sequence.State.ABORTING);
    } else {
      retire(sequence);
    }
    return true;
  }

  /** Whether sequences wait or run. */
  public boolean hasWork() {
    return !byId.isEmpty();
  }

  /** Figures at this moment. */
  public EngineLoad load() {
    Set<Object> adapters = new HashSet<>();
    running.forEach(sequence -> sequence.adapter().ifPresent(adapters::add));
    return new EngineLoad(
        running.size(),
        waiting.size(),
        tables.pool().inUse(),
        tables.pool().size(),
        adapters.size());
  }

  /**
   * Checks that every block is accounted for: referenced by running sequences exactly as often as
   * counted, and by nobody when nothing runs. Takes time linear in the number of blocks.
   *
   * @throws IllegalStateException naming the first inconsistency
   */
  public void checkInvariants() {
    for (Sequence sequence : waiting) {
      if (sequence.blockCount() != 0
          || sequence.computed() != 0
          || sequence.state() != Sequence.State.WAITING) {
        throw new IllegalStateException(sequence + " is not a plainly waiting one");
      }
    }
    if (byId.size() != waiting.size() + running.size() || running.size() > config.maxRunning()) {
      throw new IllegalStateException(
          "%d sequences known, %d waiting, %d running"
              .formatted(byId.size(), waiting.size(), running.size()));
    }
    tables.checkInvariants(running);
  }

  /** Plans a row for every sequence that lacks one token; says whether anyone was preempted. */
  private boolean planDecodes(List<StepPlan.Slice> slices) {
    boolean preempted = false;
    // Preemption takes from the list's end, so the index stays right.
    for (int i = 0; i < running.size(); i++) {
      Sequence sequence = running.get(i);
      if (sequence.pending() != 1) {
        continue;
      }
      while (sequence.state() == Sequence.State.RUNNING
          && !tables.extend(sequence, sequence.length())) {
        preemptLast();
        preempted = true;
      }
      if (sequence.state() == Sequence.State.RUNNING) {
        slices.add(slice(sequence, 1));
      }
    }
    return preempted;
  }

  /** Plans chunks of running sequences; returns what is left of the budget. */
  private int planPrefills(List<StepPlan.Slice> slices, int budget) {
    int left = budget;
    for (Sequence sequence : running) {
      if (sequence.pending() > 1) {
        left -= planChunk(slices, sequence, left);
      }
    }
    return left;
  }

  private int planChunk(List<StepPlan.Slice> slices, Sequence sequence, int budget) {
    int count = Math.min(sequence.pending(), Math.min(config.prefillChunk(), budget));
    count = Math.min(count, tables.reach(sequence) - sequence.computed());
    if (count > 0) {
      tables.extend(sequence, sequence.computed() + count);
      slices.add(slice(sequence, count));
    }
    return count;
  }

  private void admit(List<StepPlan.Slice> slices, int budget) {
    int left = budget;
    while (left > 0 && !waiting.isEmpty() && running.size() < config.maxRunning()) {
      int index =
          policy.select(
              Collections.unmodifiableList(waiting), Collections.unmodifiableList(running));
      if (index < 0) {
        return;
      }
      Sequence sequence = waiting.get(index);
      List<PrefixCache.Node> match = tables.match(sequence);
      // All known tokens must fit beside what running prompts still need. On the first chunk's
      // blocks alone, long prompts would start together and block or preempt each other. This way
      // only decodes take blocks that were counted on, and give them back when they end: as long as
      // anything runs, something can go on.
      if (!tables.fits(sequence, match, promised())) {
        return;
      }
      waiting.remove(index);
      running.add(sequence);
      sequence.state(Sequence.State.RUNNING);
      tables.adopt(sequence, match);
      left -= planChunk(slices, sequence, left);
    }
  }

  /** Blocks that running sequences still need for tokens they already have. */
  private int promised() {
    return running.stream().mapToInt(sequence -> Math.max(0, tables.missing(sequence))).sum();
  }

  private void preemptLast() {
    Sequence victim = running.removeLast();
    tables.release(victim);
    victim.state(Sequence.State.WAITING);
    waiting.addFirst(victim);
  }

  private static StepPlan.Slice slice(Sequence sequence, int count) {
    int first = sequence.computed();
    return new StepPlan.Slice(
        sequence,
        first,
        sequence.tokens(first, first + count),
        first + count == sequence.length(),
        sequence.blockTable());
  }

  private void land(StepPlan plan) {
    if (plan != inFlight) {
      throw new IllegalStateException("this plan is not in flight");
    }
    inFlight = null;
  }

  private boolean isInFlight(Sequence sequence) {
    return inFlight != null
        && inFlight.slices().stream().anyMatch(slice -> slice.sequence() == sequence);
  }

  private Outcome take(Sequence sequence, int token) {
    int index = sequence.outputLength();
    FinishReason finish = null;
    boolean emitted = !sequence.isStop(token);
    if (emitted) {
      sequence.append(token);
      finish = sequence.length() == sequence.maxLength() ? FinishReason.LENGTH : null;
    } else {
      finish = FinishReason.STOP;
    }
    if (finish != null) {
      retire(sequence);
    }
    return new Outcome(sequence, index, token, emitted, finish);
  }

  private void retire(Sequence sequence) {
    (sequence.state() == Sequence.State.WAITING ? waiting : running).remove(sequence);
    byId.remove(sequence.id());
    tables.release(sequence);
    sequence.state(Sequence.State.DONE);
  }
}
