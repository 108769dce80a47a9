package io.infinilora.metrics;

import java.util.Optional;

/**
 * What the engine reports about itself. Methods return at once and never throw. Adapters are given
 * by name; empty is the base model.
 */
public interface EngineMetrics extends LoraMetrics {
  /** Measures nothing. */
  EngineMetrics NONE = new EngineMetrics() {};

  /** A request joined the waiting queue. Called on the base model's event loop. */
  default void queued(Optional<String> adapter) {}

  /**
   * A waiting request was admitted (again, after a preemption). Called on the base model's event
   * loop.
   *
   * @param waitNanos time since {@link #queued}
   * @param adapterResident whether its adapter could compute at once; ignored for the base model
   */
  default void admitted(Optional<String> adapter, long waitNanos, boolean adapterResident) {}

  /**
   * The prefix cache was asked for a prompt. Called on the base model's event loop.
   *
   * @param promptTokens length of the prompt
   * @param cachedTokens how many of them need no computation
   */
  default void prefixLookup(int promptTokens, int cachedTokens) {}

  /** A running request was put back into the queue. Called on the base model's event loop. */
  default void preempted(Optional<String> adapter) {}

  /** A waiting request left without being admitted. Called on the base model's event loop. */
  default void abandoned(Optional<String> adapter) {}

  /** A running request ended, for whatever reason. Called on the base model's event loop. */
  default void released(Optional<String> adapter) {}

  /**
   * A step was computed. Called on the device's driver thread.
   *
   * @param sequences sequences that took part
   * @param rows tokens that went through the model
   * @param nanos duration
   */
  default void step(int sequences, int rows, long nanos) {}
}
