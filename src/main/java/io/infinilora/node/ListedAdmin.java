package io.infinilora.node;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.LoadedAdapter;
import io.infinilora.wire.AdapterFollower;
import io.smallrye.mutiny.Uni;
import java.util.List;

/**
 * Answers a change when the follower of this process shows it. The change itself and the answer
 * come from another process, and may overtake each other.
 *
 * @param admin makes the change
 * @param follower shows it
 */
record ListedAdmin(AdapterAdmin admin, AdapterFollower follower) implements AdapterAdmin {

  @Override
  public Uni<LoadedAdapter> load(AdapterRegistration adapter) {
    return admin.load(adapter).call(this::refreshed);
  }

  @Override
  public Uni<Void> unload(String name, WhenInUse whenInUse) {
    return admin.unload(name, whenInUse).call(this::refreshed);
  }

  private Uni<Void> refreshed() {
    return Uni.createFrom().completionStage(() -> follower.refresh().toCompletionStage());
  }

  @Override
  public Uni<AdapterStatus> pin(String name, boolean pinned) {
    return admin.pin(name, pinned);
  }

  @Override
  public Uni<AdapterStatus> prefetch(String name) {
    return admin.prefetch(name);
  }

  @Override
  public Uni<List<AdapterStatus>> list() {
    return admin.list();
  }
}
