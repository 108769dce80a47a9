package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.util.List;
import java.util.Optional;

/**
 * Some requests of a step have logits from which nothing can be drawn: NaN or infinity. Weights of
 * an adapter that are finite but far too large lead there. The other requests of the step are sound
 * and can be computed again.
 */
final class UnusableLogitsException extends InfiniLoraException {
  private static final long serialVersionUID = 1L;

  private final List<Integer> samples;

  /**
   * A step of which some logits are unusable.
   *
   * @param samples indices of the requests concerned, in the order of {@link StepTask#samples}
   * @param cause what the backend said
   */
  UnusableLogitsException(List<Integer> samples, InfiniLoraException cause) {
    super(cause.code(), cause.getMessage(), cause);
    this.samples = List.copyOf(samples);
  }

  /** Indices of the requests concerned, in the order of {@link StepTask#samples}. */
  List<Integer> samples() {
    return samples;
  }

  /** What a request with this adapter, if any, fails with. */
  InfiniLoraException failureOf(Optional<AdapterId> adapter) {
    return adapter
        .map(
            id ->
                new InfiniLoraException(
                    ErrorCode.BAD_ADAPTER,
                    "adapter %s makes the model's logits infinite or NaN: its weights are too large"
                        .formatted(id.name()),
                    this))
        .orElse(this);
  }
}
