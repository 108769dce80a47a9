package io.infinilora.wire;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.OverloadedException;
import io.infinilora.core.TokenEvent;
import java.time.Duration;

/**
 * How a stream ended: one of the two is null.
 *
 * @param finished its last event
 * @param failure why there is none
 */
public record StreamEnd(TokenEvent.Finished finished, Failure failure) {

  /**
   * A failure as it travels.
   *
   * @param retryAfterNanos what an {@link OverloadedException} says, or 0
   */
  public record Failure(ErrorCode code, String message, long retryAfterNanos) {

    /** What the failure is at the other side. */
    public InfiniLoraException exception() {
      return code == ErrorCode.OVERLOADED && retryAfterNanos > 0
          ? new OverloadedException(message, Duration.ofNanos(retryAfterNanos))
          : new InfiniLoraException(code, message);
    }
  }

  /** The end of a generation that completed. */
  public static StreamEnd of(TokenEvent.Finished finished) {
    return new StreamEnd(finished, null);
  }

  /** The end of a generation that failed. */
  public static StreamEnd of(Throwable failure) {
    if (!(failure instanceof InfiniLoraException e)) {
      return new StreamEnd(null, new Failure(ErrorCode.INTERNAL, failure.toString(), 0));
    }
    long retryAfter = e instanceof OverloadedException o ? o.retryAfter().toNanos() : 0;
    return new StreamEnd(null, new Failure(e.code(), e.getMessage(), retryAfter));
  }
}
