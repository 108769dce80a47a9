package io.infinilora.wire;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.LoadedAdapter;
import io.smallrye.mutiny.Uni;
import java.util.List;
import java.util.Optional;

/**
 * Answers a change when the follower of this process shows it. The change itself and the answer
 * come from another process, and may overtake each other.
 *
 * @param admin makes the change
 * @param follower shows it
 */
public record CaughtUpAdmin(AdapterAdmin admin, AdapterFollower follower) implements AdapterAdmin {

  @Override
  public Uni<LoadedAdapter> load(AdapterRegistration adapter) {
    return admin
        .load(adapter)
        .call(loaded -> caughtUp(adapter.name(), Optional.of(loaded.status().id())));
  }

  @Override
  public Uni<Void> unload(String name, WhenInUse whenInUse) {
    return admin.unload(name, whenInUse).call(() -> caughtUp(name, Optional.empty()));
  }

  /** A listing that cannot be had is asked for again when the coordinator is heard of. */
  private Uni<Void> caughtUp(String name, Optional<AdapterId> expected) {
    return follower.find(name).equals(expected)
        ? Uni.createFrom().voidItem()
        : Uni.createFrom()
            .completionStage(() -> follower.refresh().toCompletionStage())
            .onFailure()
            .recoverWithNull();
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
