package io.infinilora.core;

import java.time.Duration;

/** A queue is full ({@link ErrorCode#OVERLOADED}). Says when there is likely to be room again. */
public final class OverloadedException extends InfiniLoraException {
  private static final long serialVersionUID = 1L;

  private final Duration retryAfter;

  /**
   * A refusal.
   *
   * @param retryAfter how long the caller should wait before it tries again
   */
  public OverloadedException(String message, Duration retryAfter) {
    super(ErrorCode.OVERLOADED, message);
    if (!retryAfter.isPositive()) {
      throw new IllegalArgumentException("retryAfter " + retryAfter);
    }
    this.retryAfter = retryAfter;
  }

  /** How long the caller should wait before it tries again; greater than 0. */
  public Duration retryAfter() {
    return retryAfter;
  }
}
