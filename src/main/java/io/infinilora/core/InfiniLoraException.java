package io.infinilora.core;

import java.util.Objects;

/** An error with a {@link ErrorCode} and a message meant for the person who can mend the cause. */
public class InfiniLoraException extends RuntimeException {
  private static final long serialVersionUID = 1L;

  private final ErrorCode code;

  /** An error without a cause. */
  public InfiniLoraException(ErrorCode code, String message) {
    this(code, message, null);
  }

  /** An error with a cause, which may be null. */
  public InfiniLoraException(ErrorCode code, String message, Throwable cause) {
    super(message, cause);
    this.code = Objects.requireNonNull(code);
  }

  /** What kind of failure this is. */
  public ErrorCode code() {
    return code;
  }
}
