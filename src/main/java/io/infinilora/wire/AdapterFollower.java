package io.infinilora.wire;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterStatus;
import io.vertx.core.Context;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import io.vertx.core.eventbus.Message;
import io.vertx.core.eventbus.MessageConsumer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/**
 * Which adapters a LoRA Server has, as base models and gateways follow it: the coordinator's
 * listing, then each change. Where a change is missing, or another coordinator is in charge, it
 * asks for the listing again. Event loop, except where noted.
 */
public final class AdapterFollower {
  private static final Duration TIMEOUT = Duration.ofSeconds(10);

  /** Of no listing. */
  private static final long UNKNOWN = -1;

  private final Vertx vertx;
  private final AdapterIndex index = new AdapterIndex();
  private final Map<String, AdapterStatus> byName = new HashMap<>();
  private final List<AdapterChange> meanwhile = new ArrayList<>();
  private long version = UNKNOWN;

  /** Listings under way. */
  private int asking;

  private volatile Context context;

  /** Follows nothing yet. */
  public AdapterFollower(Vertx vertx) {
    this.vertx = vertx;
  }

  /**
   * Begins to listen, on the context of the caller; completes when nothing is missed any more. All
   * other calls have to come from there, but those that any thread may make.
   */
  public Future<Void> listen() {
    context = vertx.getOrCreateContext();
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
    apply(change);
    if (change.version() == version + 1) {
      version = change.version();
    } else if (asking == 0) {
      ask();
    }
  }

  /** Asks for the listing. */
  public Future<Void> ask() {
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

  /**
   * Asks for the listing of this moment; any thread.
   *
   * @return completes when whatever had changed before the call shows
   */
  public Future<Void> refresh() {
    Promise<Void> done = Promise.promise();
    context.runOnContext(v -> ask().onComplete(done));
    return done.future();
  }

  private void listed(AdapterListing listing) {
    Set<String> gone = new HashSet<>(byName.keySet());
    for (AdapterStatus adapter : listing.adapters()) {
      gone.remove(adapter.id().name());
      put(adapter);
    }
    gone.forEach(this::remove);
    version = listing.version();
    for (AdapterChange change : meanwhile) {
      if (change.version() > version) {
        apply(change);
        version = change.version();
      }
    }
  }

  private void apply(AdapterChange change) {
    if (change.adapter() == null) {
      remove(change.name());
    } else {
      put(change.adapter());
    }
  }

  private void put(AdapterStatus adapter) {
    byName.put(adapter.id().name(), adapter);
    index.put(adapter.id());
  }

  private void remove(String name) {
    byName.remove(name);
    index.remove(name);
  }

  /** What is known of an adapter that requests may name. */
  public Optional<AdapterStatus> status(AdapterId id) {
    return Optional.ofNullable(byName.get(id.name())).filter(status -> status.id().equals(id));
  }

  /** What new requests for a name use; any thread. */
  public Optional<AdapterId> find(String name) {
    return index.find(name);
  }

  /** What requests may name; any thread. */
  public List<AdapterId> ids() {
    return index.list();
  }
}
