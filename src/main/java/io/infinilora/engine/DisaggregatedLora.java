package io.infinilora.engine;

import io.infinilora.adapter.AdapterGroups;
import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.RowGroups;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.model.LoraPort;
import io.infinilora.wire.AdapterCall;
import io.infinilora.wire.AdapterChange;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.BusAdapterAdmin;
import io.infinilora.wire.LeaseRevocation;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import io.vertx.core.eventbus.MessageConsumer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;

/**
 * Mode {@code disaggregated}: a LoRA Server computes the deltas. When a step is announced, one
 * request per layer and shard goes onto the event bus, one-way; from then on both sides meet only
 * in the shared memory of a {@link io.infinilora.wire.LoraExchange} per shard.
 */
public final class DisaggregatedLora implements LoraRuntime {
  private static final Duration ATTACH_TIMEOUT = Duration.ofSeconds(10);

  private final String base;
  private final AdapterAdmin admin;
  private final List<ShardLink> shards;
  private final AdapterIndex index = new AdapterIndex();
  private final Map<AdapterId, Set<LoraTarget>> targets = new HashMap<>();
  private final Map<Integer, ShardedLease> leases = new HashMap<>();
  private int lastSlot;
  private long nextStep;

  private DisaggregatedLora(
      String base, Vertx vertx, Backend backend, ModelSpec spec, LoraGrid grid, int rows) {
    this.base = base;
    admin = new BusAdapterAdmin(vertx.eventBus());
    shards =
        grid.shards().stream()
            .map(shard -> new ShardLink(base, vertx, backend, spec, shard, rows))
            .toList();
  }

  /**
   * An attachment to the LoRA Server of this JVM.
   *
   * @param base name of the base-model instance
   * @param rows most rows of a step
   */
  public static LoraAttachment attachment(
      String base, Backend backend, ModelSpec spec, LoraGrid grid, int rows) {
    return (vertx, loop, driver) -> {
      Promise<LoraRuntime> attached = Promise.promise();
      // The exchanges take a while to allocate.
      vertx
          .executeBlocking(() -> new DisaggregatedLora(base, vertx, backend, spec, grid, rows))
          .compose(runtime -> runtime.follow(vertx))
          .onComplete(attached);
      return attached.future();
    };
  }

  /** Learns which adapters there are: changes are kept until the listing they belong on is here. */
  private Future<LoraRuntime> follow(Vertx vertx) {
    List<AdapterChange> early = new ArrayList<>();
    Follower follower = new Follower(early);
    vertx
        .eventBus()
        .<LeaseRevocation>consumer(LoraAddresses.revocations(base), m -> revoked(m.body()));
    vertx.eventBus().<ShardNotice>consumer(LoraAddresses.SHARDS, m -> noticed(m.body()));
    MessageConsumer<AdapterChange> changes =
        vertx.eventBus().consumer(LoraAddresses.CHANGES, m -> follower.change(m.body()));
    return changes
        .completion()
        .compose(
            v ->
                vertx
                    .eventBus()
                    .<AdapterListing>request(
                        LoraAddresses.ADMIN,
                        new AdapterCall.Listing(),
                        new DeliveryOptions().setSendTimeout(ATTACH_TIMEOUT.toMillis())))
        .map(
            reply -> {
              follower.listing(reply.body());
              return (LoraRuntime) this;
            })
        .recover(cause -> Future.failedFuture(WireFailures.of(cause)));
  }

  /** Applies a listing and the changes after it. */
  private final class Follower {
    private List<AdapterChange> early;

    Follower(List<AdapterChange> early) {
      this.early = early;
    }

    void change(AdapterChange change) {
      if (early != null) {
        early.add(change);
      } else {
        apply(change);
      }
    }

    void listing(AdapterListing listing) {
      listing.adapters().forEach(DisaggregatedLora.this::put);
      List<AdapterChange> waiting = early;
      early = null;
      waiting.stream().filter(c -> c.version() > listing.version()).forEach(this::apply);
    }

    private void apply(AdapterChange change) {
      if (change.adapter() == null) {
        forget(change.name());
        index.remove(change.name());
      } else {
        put(change.adapter());
      }
    }
  }

  private void put(AdapterStatus adapter) {
    forget(adapter.id().name());
    index.put(adapter.id());
    targets.put(adapter.id(), adapter.targets());
  }

  private void forget(String name) {
    index.find(name).ifPresent(targets::remove);
  }

  private void revoked(LeaseRevocation revocation) {
    List.copyOf(leases.values())
        .forEach(lease -> lease.revoked(revocation.shard(), revocation.grant()));
  }

  /** Whatever a shard granted before it ended or began again is void. */
  private void noticed(ShardNotice notice) {
    ShardLink link = shards.get(notice.shard());
    InfiniLoraException cause =
        new InfiniLoraException(
            ErrorCode.UNAVAILABLE,
            "LoRA shard %s %s"
                .formatted(link.shard(), notice.serving() ? "has restarted" : "is gone"));
    link.lost(cause);
    List.copyOf(leases.values()).forEach(lease -> lease.lost(cause));
  }

  @Override
  public Future<Void> recover() {
    return Future.join(shards.stream().map(ShardLink::recover).toList()).mapEmpty();
  }

  @Override
  public Optional<AdapterId> find(String name) {
    return index.find(name);
  }

  @Override
  public List<AdapterId> adapters() {
    return index.list();
  }

  @Override
  public AdapterAdmin admin() {
    return admin;
  }

  @Override
  public Lease lease(AdapterId adapter, long deadlineNanos, LeaseListener listener) {
    int slot = ++lastSlot;
    ShardedLease lease =
        new ShardedLease(
            slot,
            targets.getOrDefault(adapter, EnumSet.allOf(LoraTarget.class)),
            shards,
            () -> find(adapter.name()).equals(Optional.of(adapter)),
            () -> leases.remove(slot));
    leases.put(slot, lease);
    lease.request(adapter, deadlineNanos, listener);
    return lease;
  }

  @Override
  public Step announce(int[] slotOfRow, long deadlineNanos) {
    AdapterGroups groups = AdapterGroups.of(slotOfRow);
    if (groups.isEmpty()) {
      return Step.NONE;
    }
    int[] rows = groups.groups().rows();
    // The exchange holds the rows in the order of the groups, so that group g is rows starts[g] ..
    // starts[g+1]-1.
    RowGroups compact = new RowGroups(identity(rows.length), groups.groups().starts());
    List<ShardedLease> held = Arrays.stream(groups.slots()).mapToObj(leases::get).toList();
    Set<LoraTarget> ofStep = EnumSet.noneOf(LoraTarget.class);
    held.forEach(lease -> ofStep.addAll(lease.targets()));
    long id = nextStep++;
    List<ShardLink.Announced> announced = new ArrayList<>(shards.size());
    for (int s = 0; s < shards.size(); s++) {
      int shard = s;
      int[] slots = held.stream().mapToInt(lease -> lease.at(shard).slot()).toArray();
      // All are of one incarnation: with a shard, all its leases are lost.
      UUID incarnation = held.getFirst().at(shard).incarnation();
      announced.add(
          shards.get(s).announce(id, incarnation, compact, rows, slots, ofStep, deadlineNanos));
    }
    return new AnnouncedStep(announced);
  }

  private static int[] identity(int n) {
    int[] rows = new int[n];
    Arrays.setAll(rows, i -> i);
    return rows;
  }

  @Override
  public void close() {
    shards.forEach(ShardLink::close);
  }

  private record AnnouncedStep(List<ShardLink.Announced> shards) implements Step {
    @Override
    public LoraPort port(OpStream ops) {
      List<ExchangePort> ports = shards.stream().map(s -> s.port(ops)).toList();
      return ports.size() == 1 ? ports.getFirst() : new ShardedPort(ports, ops);
    }

    @Override
    public void abandon() {
      shards.forEach(ShardLink.Announced::abandon);
    }
  }
}
