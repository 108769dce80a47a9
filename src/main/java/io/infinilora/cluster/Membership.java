package io.infinilora.cluster;

import io.vertx.core.Completable;
import io.vertx.core.spi.cluster.NodeInfo;
import io.vertx.core.spi.cluster.RegistrationInfo;
import io.vertx.ext.cluster.infinispan.InfinispanClusterManager;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.infinispan.manager.DefaultCacheManager;
import org.infinispan.notifications.Listener;
import org.infinispan.notifications.cachemanagerlistener.annotation.Merged;
import org.infinispan.notifications.cachemanagerlistener.event.MergeEvent;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Vert.x's cluster manager on an Infinispan newer than the one it was built with, since that one
 * does not start on Java 24 and later ({@code Subject.getSubject} is gone). All calls but one are
 * the same in both.
 *
 * <p>When two parts of a cluster find each other again, the caches keep what one of them had, so
 * each member writes down once more where its consumers are.
 */
final class Membership extends InfinispanClusterManager {
  private static final Logger log = LoggerFactory.getLogger(Membership.class);

  private final DefaultCacheManager caches;
  private final Map<String, Set<RegistrationInfo>> registrations = new ConcurrentHashMap<>();
  private volatile NodeInfo nodeInfo;

  Membership(DefaultCacheManager caches) {
    super(caches);
    this.caches = caches;
    caches.addListener(new MergeListener());
  }

  /** The inherited method calls one that is private by now. */
  @Override
  public List<String> getNodes() {
    return caches.getMembers().stream().map(Object::toString).toList();
  }

  @Override
  public void addRegistration(
      String address, RegistrationInfo registration, Completable<Void> promise) {
    registrations.computeIfAbsent(address, a -> ConcurrentHashMap.newKeySet()).add(registration);
    super.addRegistration(address, registration, promise);
  }

  @Override
  public void removeRegistration(
      String address, RegistrationInfo registration, Completable<Void> promise) {
    registrations.computeIfPresent(
        address,
        (a, known) -> {
          known.remove(registration);
          return known.isEmpty() ? null : known;
        });
    super.removeRegistration(address, registration, promise);
  }

  @Override
  public void setNodeInfo(NodeInfo info, Completable<Void> promise) {
    nodeInfo = info;
    super.setNodeInfo(info, promise);
  }

  private void writeDownAgain() {
    log.info("the cluster has come together again: {}", caches.getMembers());
    if (nodeInfo != null) {
      super.setNodeInfo(nodeInfo, Membership::written);
    }
    registrations.forEach(
        (address, known) ->
            known.forEach(r -> super.addRegistration(address, r, Membership::written)));
  }

  private static void written(Void done, Throwable failure) {
    if (failure != null) {
      log.warn("a consumer of this process is not known to the cluster", failure);
    }
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

  /** Called by Infinispan, whose listeners have to be public. */
  @Listener(sync = false)
  public final class MergeListener {
    /** Parts have come together. */
    @Merged
    public void merged(MergeEvent event) {
      writeDownAgain();
    }
  }
}
