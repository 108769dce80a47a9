package io.infinilora.engine;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;

/**
 * Whoever computes adapters could not, while the base model could: worth trying again, since that
 * may be over or somebody else may do it.
 */
final class LoraSideException extends InfiniLoraException {
  private static final long serialVersionUID = 1L;

  LoraSideException(ErrorCode code, String message, Throwable cause) {
    super(code, message, cause);
  }

  /** The same error as one of the LoRA side. */
  static LoraSideException of(InfiniLoraException cause) {
    return cause instanceof LoraSideException known
        ? known
        : new LoraSideException(cause.code(), cause.getMessage(), cause);
  }
}
