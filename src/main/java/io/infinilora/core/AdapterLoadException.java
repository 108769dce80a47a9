package io.infinilora.core;

import java.util.Objects;

/**
 * An adapter that requests use already could not be loaded to its end. Those with this adapter
 * fail; whoever shares a step with them goes on.
 */
public final class AdapterLoadException extends InfiniLoraException {
  private static final long serialVersionUID = 1L;

  private final AdapterId adapter;

  /**
   * A load that has failed.
   *
   * @param cause may be null
   */
  public AdapterLoadException(AdapterId adapter, ErrorCode code, String message, Throwable cause) {
    super(code, message, cause);
    this.adapter = Objects.requireNonNull(adapter);
  }

  /** What a load has failed with; an {@link InfiniLoraException} keeps its code and message. */
  public static AdapterLoadException of(AdapterId adapter, Throwable cause) {
    return cause instanceof InfiniLoraException known
        ? new AdapterLoadException(adapter, known.code(), known.getMessage(), known)
        : new AdapterLoadException(
            adapter,
            ErrorCode.INTERNAL,
            "adapter %s cannot be loaded: %s".formatted(adapter, cause),
            cause);
  }

  /** The generation that could not be loaded. */
  public AdapterId adapter() {
    return adapter;
  }
}
