package io.infinilora.scheduler;

import io.infinilora.config.Policy;
import java.util.List;

/**
 * Chooses who gets the next rows of a step once every decode has its own: a running sequence whose
 * prompt is not computed yet, or a waiting one. It always chooses somebody and only sees those
 * whose adapter is ready, so it can neither lose a request nor make one wait for another's adapter.
 *
 * <p>If the chosen candidate finds no room, nobody else is admitted in that step, so one that needs
 * much is not overtaken by those that need little. {@link Sequence#overtaken} counts how often a
 * policy let others pass.
 */
public interface SchedulingPolicy {

  /** A policy with the state of one scheduler. */
  static SchedulingPolicy of(Policy policy) {
    return switch (policy) {
      case FCFS -> new FirstComeFirstServed();
      case SJF -> new ShortestJobFirst();
      case ADAPTER_FAIR -> new AdapterFair();
    };
  }

  /**
   * Who gets the next rows: at most a chunk, which is reported to {@link #served} before the next
   * call.
   *
   * @param prefilling running sequences that have no rows in this step yet, in order of admission
   * @param candidates waiting sequences, preempted ones first, then in order of arrival; empty if
   *     nobody can be admitted any more in this step
   * @return an element of one of the lists, of which at least one is not empty
   */
  Sequence select(List<Sequence> prefilling, List<Sequence> candidates);

  /**
   * A step begins.
   *
   * @param backlog everybody whose adapter is ready and who has prompt to compute, running or
   *     waiting, whether there is room or not
   */
  default void begin(List<Sequence> backlog) {}

  /**
   * Rows of a sequence were planned, decodes included. A position is reported once, however often
   * it is computed: not again after a preemption or a failed step, and never if it was found in the
   * prefix cache.
   *
   * @param prompt rows of prompt tokens
   * @param output rows of output tokens
   */
  default void served(Sequence sequence, int prompt, int output) {}

  /** A sequence has left, finished or aborted. */
  default void ended(Sequence sequence) {}
}
