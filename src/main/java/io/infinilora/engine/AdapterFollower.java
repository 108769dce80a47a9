package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterStatus;
import io.infinilora.wire.AdapterCall;
import io.infinilora.wire.AdapterChange;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.CoordinatorNotice;
import io.infinilora.wire.LoraAddresses;
import io.smallrye.mutiny.Uni;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import io.vertx.core.eventbus.Message;
import io.vertx.core.eventbus.MessageConsumer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Which adapters a LoRA Server has, as a base model follows it: the coordinator's listing, then
 * each change. Where a change is missing, or another coordinator is in charge, it asks for the
 * listing again. Event loop, except where noted.
 */
final class AdapterFollower {
  private static final Duration TIMEOUT = Duration.ofSeconds(10);

  /** Of no listing. */
  private static final long UNKNOWN = -1;

  private final Vertx vertx;
  private Map<String, AdapterStatus> byName = new LinkedHashMap<>();
  private final List<AdapterChange> meanwhile = new ArrayList<>();
  private volatile List<AdapterId> ids = List.of();
  private long version = UNKNOWN;

  /** Listings under way. */
  private int asking;

  AdapterFollower(Vertx vertx) {
    this.vertx = vertx;
  }

  /** Begins to listen; completes when nothing is missed any more. */
  Future<Void> listen() {
    vertx
        .eventBus()
        .<CoordinatorNotice>consumer(LoraAddresses.COORDINATORS, m -> noticed(m.body()));
    MessageConsumer<AdapterChange> changes =
        vertx.eventBus().consumer(LoraAddresses.CHANGES, m -> changed(m.body()));
    return changes.completion();
  }

  private void noticed(CoordinatorNotice notice) {
    if (notice.version() != version && asking == 0) {
      ask();
    }
  }

  private void changed(AdapterChange change) {
    if (asking > 0) {
      meanwhile.add(change);
    }
    // At once, even if a listing is under way: whoever caused it may have his answer already.
    apply(byName, change);
    publish();
    if (change.version() == version + 1) {
      version = change.version();
    } else if (asking == 0) {
      ask();
    }
  }

  /** Asks for the listing. */
  Future<Void> ask() {
    if (asking++ == 0) {
      meanwhile.clear();
    }
    return vertx
        .eventBus()
        .<AdapterListing>request(
            LoraAddresses.ADMIN,
            new AdapterCall.Listing(),
            new DeliveryOptions().setSendTimeout(TIMEOUT.toMillis()))
        .map(Message::body)
        .onComplete(v -> asking--)
        .onSuccess(this::listed)
        .mapEmpty();
  }

  /** The same, for whoever waits for it; one that fails is asked for again when a notice comes. */
  Uni<Void> catchUp() {
    return Uni.createFrom()
        .completionStage(() -> ask().toCompletionStage())
        .onFailure()
        .recoverWithNull();
  }

  private void listed(AdapterListing listing) {
    Map<String, AdapterStatus> listed = new LinkedHashMap<>();
    listing.adapters().forEach(a -> listed.put(a.id().name(), a));
    version = listing.version();
    for (AdapterChange change : meanwhile) {
      if (change.version() > version) {
        apply(listed, change);
        version = change.version();
      }
    }
    byName = listed;
    publish();
  }

  private static void apply(Map<String, AdapterStatus> adapters, AdapterChange change) {
    if (change.adapter() == null) {
      adapters.remove(change.name());
    } else {
      adapters.put(change.name(), change.adapter());
    }
  }

  private void publish() {
    ids = byName.values().stream().map(AdapterStatus::id).toList();
  }

  /** What requests for a name use, or null. */
  AdapterStatus get(String name) {
    return byName.get(name);
  }

  /** What requests may name; any thread. */
  List<AdapterId> ids() {
    return ids;
  }
}
