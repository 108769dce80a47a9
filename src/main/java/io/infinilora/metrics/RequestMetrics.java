package io.infinilora.metrics;

import java.util.Optional;

/**
 * What a front end reports about the generations it serves. Every method may be called from any
 * thread; those of one {@link Generation} from one thread at a time.
 */
public interface RequestMetrics {
  /** Measures nothing. */
  RequestMetrics NONE = adapter -> new Generation() {};

  /** How a generation ended. */
  enum Outcome {
    STOP,
    LENGTH,
    /** The client went away. */
    CANCELLED,
    ERROR
  }

  /**
   * A generation is about to start; time is counted from here.
   *
   * @param adapter name of the adapter, or empty for the base model
   */
  Generation begin(Optional<String> adapter);

  /** One generation. {@link #end} is called exactly once, last. */
  interface Generation {
    /** An output token has arrived. */
    default void token() {}

    /**
     * The generation is over.
     *
     * @param promptTokens length of the prompt
     */
    default void end(Outcome outcome, int promptTokens) {}
  }
}
