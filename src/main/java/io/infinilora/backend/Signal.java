package io.infinilora.backend;

/**
 * A monotonically increasing 64-bit counter that orders memory between two streams: everything
 * written before {@code release(v)} is visible after an {@code await(v)} that returned. One thread
 * releases; any number wait.
 */
public interface Signal {

  /**
   * Raises the counter to {@code value}; lower values than the present one are a defect of the
   * caller.
   */
  void release(long value);

  /** The counter's present value, with acquire semantics. */
  long value();

  /**
   * Waits until the counter is at least {@code value}: spins briefly, then parks.
   *
   * @param deadlineNanos {@link System#nanoTime} at which to give up
   * @return false if the deadline passed or the thread was interrupted first
   */
  boolean await(long value, long deadlineNanos);
}
