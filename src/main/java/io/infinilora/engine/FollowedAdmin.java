package io.infinilora.engine;

import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.LoadedAdapter;
import io.smallrye.mutiny.Uni;
import java.util.List;
import java.util.concurrent.Executor;

/**
 * Answers on a base model's event loop. Whatever has changed was announced to that loop before, so
 * who has the answer finds the base model changed.
 */
record FollowedAdmin(AdapterAdmin admin, Executor loop) implements AdapterAdmin {

  @Override
  public Uni<LoadedAdapter> load(AdapterRegistration adapter) {
    return admin.load(adapter).emitOn(loop);
  }

  @Override
  public Uni<Void> unload(String name, WhenInUse whenInUse) {
    return admin.unload(name, whenInUse).emitOn(loop);
  }

  @Override
  public Uni<AdapterStatus> pin(String name, boolean pinned) {
    return admin.pin(name, pinned).emitOn(loop);
  }

  @Override
  public Uni<AdapterStatus> prefetch(String name) {
    return admin.prefetch(name).emitOn(loop);
  }

  @Override
  public Uni<List<AdapterStatus>> list() {
    return admin.list().emitOn(loop);
  }
}
