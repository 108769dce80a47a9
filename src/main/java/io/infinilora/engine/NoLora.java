package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import java.util.List;
import java.util.Optional;

/** Mode {@code none}: the base model only. */
public final class NoLora implements LoraRuntime {
  @Override
  public Optional<Adapter> find(String name) {
    return Optional.empty();
  }

  @Override
  public List<AdapterId> adapters() {
    return List.of();
  }

  @Override
  public Step announce(int[] slotOfRow, long deadlineNanos) {
    return Step.NONE;
  }
}
