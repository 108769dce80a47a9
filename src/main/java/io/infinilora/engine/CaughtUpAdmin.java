package io.infinilora.engine;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterStatus;
import io.smallrye.mutiny.Uni;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Executor;

/**
 * Answers when the base model has followed. Between processes an answer may overtake the change
 * that it is about; then the listing is asked for first.
 *
 * @param loop runs tasks on the base model's event loop
 */
record CaughtUpAdmin(AdapterAdmin admin, AdapterFollower followed, Executor loop)
    implements AdapterAdmin {

  @Override
  public Uni<AdapterStatus> load(String name, Path source) {
    return admin
        .load(name, source)
        .emitOn(loop)
        .call(
            status -> {
              AdapterStatus known = followed.get(name);
              return known != null && known.id().equals(status.id()) ? done() : followed.catchUp();
            });
  }

  @Override
  public Uni<Void> unload(String name, WhenInUse whenInUse) {
    return admin
        .unload(name, whenInUse)
        .emitOn(loop)
        .call(() -> followed.get(name) == null ? done() : followed.catchUp());
  }

  private static Uni<Void> done() {
    return Uni.createFrom().voidItem();
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
