package io.infinilora.scheduler;

import io.infinilora.core.AdapterId;

/**
 * Says which adapters steps can be computed with. The scheduler asks while it plans and while it
 * queues; answers must not change during a call. When one has changed, the owner asks for the next
 * plan again.
 */
@FunctionalInterface
public interface AdapterGate {

  /** Every adapter is always ready. */
  AdapterGate OPEN = adapter -> State.READY;

  /**
   * Where an adapter generation stands. In every state but {@link #READY} new sequences wait, and
   * but for {@link #DRAINING} running ones get no rows. Neither holds up anybody else.
   */
  enum State {
    /** Steps may use it. */
    READY,
    /** Running sequences go on, but no new ones begin: others wait for its memory. */
    DRAINING,
    /** It is on its way. */
    LOADING,
    /** Whoever computes it is gone, or it could not be loaded. */
    UNAVAILABLE
  }

  /** The state of a generation, also of one that was never heard of. */
  State state(AdapterId adapter);

  /** Whether a step may hold rows of this sequence. */
  default boolean admits(Sequence sequence) {
    return sequence
        .adapter()
        .map(
            adapter ->
                switch (state(adapter)) {
                  case READY -> true;
                  case DRAINING -> sequence.state() == Sequence.State.RUNNING;
                  case LOADING, UNAVAILABLE -> false;
                })
        .orElse(true);
  }
}
