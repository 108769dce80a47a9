package io.infinilora.scheduler;

import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.InfiniLoraException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
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
 * budget, in the order of the {@link SchedulingPolicy}. When blocks run out for a decode, the
 * sequence admitted last gives its blocks up, goes to the head of the queue and is computed again
 * later, prompt and output. The sequence admitted first of those whose adapter is ready is never
 * preempted, so there is always progress.
 *
 * <p>Sequences whose adapter is not ready, as the {@link AdapterGate} says, stay out of all this.
 * They are not admitted; those that run are paused: no rows, but they keep their blocks and their
 * place for as long as nobody else needs them, and then give them up before anyone else does.
 */
public final class Scheduler {
  private final SchedulerConfig config;
  private final SchedulingPolicy policy;
  private final AdapterGate gate;
  private final BlockTables tables;
  private final Roster roster = new Roster();
  private final StepPlanner planner;

  private StepPlan inFlight;

  /** A scheduler whose adapters are always ready. */
  public Scheduler(SchedulerConfig config) {
    this(config, AdapterGate.OPEN);
  }

  /** A scheduler with the configured policy. */
  public Scheduler(SchedulerConfig config, AdapterGate gate) {
    this(config, gate, SchedulingPolicy.of(config.policy()));
  }

  /**
   * A scheduler with a policy of its own.
   *
   * @param policy used by this scheduler only
   */
  public Scheduler(SchedulerConfig config, AdapterGate gate, SchedulingPolicy policy) {
    this.config = config;
    this.policy = policy;
    this.gate = gate;
    this.tables = new BlockTables(config.kvBlocks(), config.blockSize(), config.prefixCache());
    this.planner = new StepPlanner(config, policy, gate, tables, roster);
  }

  /** Longest prompt plus output: the configured length, or what the whole KV cache holds. */
  public int contextLength() {
    return (int) Math.min(config.contextLength(), (long) config.kvBlocks() * config.blockSize());
  }

  /**
   * Queues a sequence. It ends at the context's end if its token limit lies beyond.
   *
   * <p>The queue's limit holds for those whose adapter is ready and for the others apart, so that
   * neither keep the other out. An adapter without a waiting sequence, or the base model, is always
   * let in with one: however full others make the queue, nobody is shut out.
   *
   * @throws InfiniLoraException {@code OVERLOADED} if the queue is full, {@code
   *     CONTEXT_LENGTH_EXCEEDED} if there is no room for its tokens and one more, {@code
   *     INVALID_REQUEST} if its id is in use
   */
  public void add(Sequence sequence) {
    int prompt = sequence.promptLength();
    if (sequence.length() >= contextLength()) {
      throw new InfiniLoraException(
          ErrorCode.CONTEXT_LENGTH_EXCEEDED,
          "the prompt has %d tokens; with at least one %soutput token it exceeds the context of %d tokens (context length %d, KV cache %d blocks of %d)"
              .formatted(
                  prompt,
                  sequence.outputLength() == 0
                      ? ""
                      : "more than the %d generated elsewhere as "
                          .formatted(sequence.outputLength()),
                  contextLength(),
                  config.contextLength(),
                  config.kvBlocks(),
                  config.blockSize()));
    }
    boolean ready = gate.admits(sequence);
    long rivals = roster.waiting().stream().filter(other -> gate.admits(other) == ready).count();
    if (rivals >= config.maxWaiting()
        && roster.waiting().stream().anyMatch(other -> other.tenant().equals(sequence.tenant()))) {
      throw new InfiniLoraException(
          ErrorCode.OVERLOADED,
          "%d requests are waiting already%s; try again later"
              .formatted(rivals, ready ? "" : " for their adapters"));
    }
    if (roster.find(sequence.id()) != null) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST, "request id %s is in use".formatted(sequence.id()));
    }
    int room = contextLength() - prompt;
    sequence.limit(prompt + Math.min(room, sequence.request().sampling().maxTokens()));
    roster.add(sequence);
  }

  /**
   * The next step. Blocks for its rows are allocated.
   *
   * @return empty if no sequence can go on: there is none, or ({@link #hasWork} tells) all wait for
   *     adapters. In that case the owner asks again when a gate changes; as long as any sequence's
   *     adapter is ready, or any needs none, there is a step
   * @throws IllegalStateException if a plan is in flight
   */
  public Optional<StepPlan> next() {
    if (inFlight != null) {
      throw new IllegalStateException("a plan is in flight");
    }
    List<StepPlan.Slice> slices = planner.plan();
    if (slices.isEmpty()) {
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
      sequence.stepCompleted();
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
   * stood before it, at their last token, and a later plan computes the same positions again. How
   * often that is tried is up to the owner: {@link Sequence#failedSteps} counts, {@link #abort}
   * ends it.
   */
  public void rollback(StepPlan plan) {
    land(plan);
    for (StepPlan.Slice slice : plan.slices()) {
      Sequence sequence = slice.sequence();
      if (sequence.state() == Sequence.State.ABORTING) {
        retire(sequence);
      } else {
        sequence.stepFailed();
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
    Sequence sequence = roster.find(id);
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

  /** Whether sequences wait or run, paused ones included. */
  public boolean hasWork() {
    return !roster.isEmpty();
  }

  /** Figures at this moment. */
  public EngineLoad load() {
    Set<Object> adapters = new HashSet<>();
    roster.running().forEach(sequence -> sequence.adapter().ifPresent(adapters::add));
    return new EngineLoad(
        roster.running().size(),
        roster.waiting().size(),
        tables.pool().inUse(),
        tables.pool().size(),
        adapters.size());
  }

  /**
   * Checks that no block is in use, as it has to be when nothing runs. Takes constant time.
   *
   * @throws IllegalStateException saying how many are
   */
  public void checkIdle() {
    if (tables.pool().inUse() != 0) {
      throw new IllegalStateException(
          "%d KV blocks are in use by nobody".formatted(tables.pool().inUse()));
    }
  }

  /**
   * Checks that every block is accounted for: referenced by running sequences exactly as often as
   * counted, and by nobody when nothing runs. Takes time linear in the number of blocks.
   *
   * @throws IllegalStateException naming the first inconsistency
   */
  public void checkInvariants() {
    roster.checkInvariants();
    if (roster.running().size() > config.maxRunning()) {
      throw new IllegalStateException(
          "%d sequences run, %d may".formatted(roster.running().size(), config.maxRunning()));
    }
    tables.checkInvariants(roster.running());
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
    tables.release(sequence);
    roster.remove(sequence);
    policy.ended(sequence);
  }
}
