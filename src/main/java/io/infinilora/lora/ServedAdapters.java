package io.infinilora.lora;

import io.infinilora.core.AdapterStatus;
import io.infinilora.wire.AdapterChange;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.CoordinatorNotice;
import io.infinilora.wire.LoraAddresses;
import io.vertx.core.Vertx;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;

/**
 * The adapters that base models may use, in order of registration. Each change has a number and is
 * published to whoever follows. Event loop only.
 */
final class ServedAdapters {
  /** Makes room for the changes of a coordinator in its first millisecond. */
  private static final long VERSIONS_PER_MILLI = 1_000;

  private final Vertx vertx;
  private final Map<String, AdapterStatus> byName = new LinkedHashMap<>();

  /** Begins with the time, so that those of the next coordinator are greater. */
  private long version = System.currentTimeMillis() * VERSIONS_PER_MILLI;

  ServedAdapters(Vertx vertx) {
    this.vertx = vertx;
  }

  Optional<AdapterStatus> find(String name) {
    return Optional.ofNullable(byName.get(name));
  }

  boolean contains(String name) {
    return byName.containsKey(name);
  }

  /** All of them; a copy. */
  List<AdapterStatus> list() {
    return List.copyOf(byName.values());
  }

  /** The adapters as they were registered, or with the places that somebody has just found. */
  AdapterListing listing(List<AdapterStatus> now) {
    return new AdapterListing(version, now);
  }

  /** From now on a name means this. */
  void put(AdapterStatus adapter) {
    byName.put(adapter.id().name(), adapter);
    publish(adapter.id().name(), adapter);
  }

  /** More is known of an adapter, which base models need not hear of; passed over if it is gone. */
  void update(AdapterStatus adapter) {
    byName.replace(adapter.id().name(), adapter);
  }

  /** From now on a name means nothing. */
  void remove(String name) {
    byName.remove(name);
    publish(name, null);
  }

  private void publish(String name, AdapterStatus status) {
    vertx.eventBus().publish(LoraAddresses.CHANGES, new AdapterChange(++version, name, status));
  }

  /** Says that the coordinator serves, and how far base models should be. */
  void announce() {
    vertx.eventBus().publish(LoraAddresses.COORDINATORS, new CoordinatorNotice(version));
  }
}
