package io.infinilora.engine;

/**
 * Sees the logits of every prompt position of one request. Called on the driver thread, positions
 * ascending.
 */
public interface PromptObserver {

  /**
   * Logits of one position.
   *
   * @param position in the prompt; may come again, from an earlier position on, after a preemption
   *     or a failed step
   * @param logits {@code [vocab]}; reused after the call
   */
  void logits(int position, float[] logits);
}
