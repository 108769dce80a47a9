package io.infinilora.engine;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.smallrye.mutiny.Uni;
import java.util.List;
import java.util.Optional;

/** Mode {@code none}: the base model only. */
public final class NoLora implements LoraRuntime {
  private static final AdapterAdmin ADMIN = new Refusal();

  @Override
  public Optional<AdapterId> find(String name) {
    return Optional.empty();
  }

  @Override
  public List<AdapterId> adapters() {
    return List.of();
  }

  @Override
  public AdapterAdmin admin() {
    return ADMIN;
  }

  @Override
  public Lease lease(AdapterId adapter, long deadlineNanos, LeaseListener listener) {
    throw new IllegalStateException("no adapter can be found, so none can be leased");
  }

  @Override
  public Step announce(int[] slotOfRow, long deadlineNanos) {
    return Step.NONE;
  }

  private static final class Refusal implements AdapterAdmin {
    private static <T> Uni<T> refused() {
      return Uni.createFrom()
          .failure(
              () ->
                  new InfiniLoraException(
                      ErrorCode.INVALID_REQUEST,
                      "the server runs without adapters (loraMode none)"));
    }

    @Override
    public Uni<LoadedAdapter> load(AdapterRegistration adapter) {
      return refused();
    }

    @Override
    public Uni<Void> unload(String name, WhenInUse whenInUse) {
      return refused();
    }

    @Override
    public Uni<AdapterStatus> pin(String name, boolean pinned) {
      return refused();
    }

    @Override
    public Uni<AdapterStatus> prefetch(String name) {
      return refused();
    }

    @Override
    public Uni<List<AdapterStatus>> list() {
      return Uni.createFrom().item(List.of());
    }
  }
}
