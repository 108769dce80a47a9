package io.infinilora.cluster;

import io.vertx.core.Completable;
import io.vertx.ext.cluster.infinispan.InfinispanClusterManager;
import java.util.List;
import org.infinispan.manager.DefaultCacheManager;

/**
 * Vert.x's cluster manager on an Infinispan newer than the one it was built with, since that one
 * does not start on Java 24 and later ({@code Subject.getSubject} is gone). All calls but one are
 * the same in both.
 */
final class Membership extends InfinispanClusterManager {
  private final DefaultCacheManager caches;

  Membership(DefaultCacheManager caches) {
    super(caches);
    this.caches = caches;
  }

  /** The inherited method calls one that is private by now. */
  @Override
  public List<String> getNodes() {
    return caches.getMembers().stream().map(Object::toString).toList();
  }

  /** The inherited method leaves caches alone that it was given. */
  @Override
  public void leave(Completable<Void> promise) {
    super.leave(
        (done, failure) -> {
          caches.stop();
          promise.complete(done, failure);
        });
  }
}
