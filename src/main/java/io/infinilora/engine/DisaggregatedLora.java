package io.infinilora.engine;

import io.infinilora.adapter.AdapterGroups;
import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.RowGroups;
import io.infinilora.core.AdapterAdmin;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.model.LoraPort;
import io.infinilora.wire.AdapterFollower;
import io.infinilora.wire.BusAdapterAdmin;
import io.infinilora.wire.CaughtUpAdmin;
import io.infinilora.wire.LeaseRevocation;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.ShardHang;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
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
 * in the shared memory of a {@link io.infinilora.wire.LoraExchange} per shard. A shard in another
 * process gets the step and its rows in {@linkplain io.infinilora.wire.frames frames} instead.
 */
public final class DisaggregatedLora implements LoraRuntime {
  private final String base;
  private final Vertx vertx;
  private final AdapterAdmin admin;
  private final List<ShardLink> shards;
  private final AdapterFollower followed;
  private final Map<Integer, ShardedLease> leases = new HashMap<>();
  private int lastSlot;
  private long nextStep;

  private DisaggregatedLora(
      String base, Vertx vertx, Backend backend, ModelSpec spec, LoraGrid grid, int rows) {
    this.base = base;
    this.vertx = vertx;
    followed = new AdapterFollower(vertx);
    admin = new CaughtUpAdmin(new BusAdapterAdmin(vertx.eventBus()), followed);
    shards =
        grid.shards().stream()
            .map(shard -> new ShardLink(base, vertx, backend, spec, shard, rows, this::lost))
            .toList();
  }

  /**
   * An attachment to a LoRA Server that is there already.
   *
   * @param base name of the base-model instance
   * @param rows most rows of a step
   */
  public static LoraAttachment attachment(
      String base, Backend backend, ModelSpec spec, LoraGrid grid, int rows) {
    return (vertx, loop, driver) -> {
      DisaggregatedLora runtime = new DisaggregatedLora(base, vertx, backend, spec, grid, rows);
      return runtime
          .follow()
          .compose(v -> runtime.followed.ask())
          .<LoraRuntime>map(v -> runtime)
          .recover(cause -> Future.failedFuture(WireFailures.of(cause)));
    };
  }

  /**
   * An attachment to a LoRA Server that may come later, or again. Until then there are no adapters.
   *
   * @param base name of the base-model instance
   * @param rows most rows of a step
   */
  public static LoraAttachment patientAttachment(
      String base, Backend backend, ModelSpec spec, LoraGrid grid, int rows) {
    return (vertx, loop, driver) -> {
      DisaggregatedLora runtime = new DisaggregatedLora(base, vertx, backend, spec, grid, rows);
      return runtime.follow().map(runtime);
    };
  }

  /** Learns of shards and adapters. */
  private Future<Void> follow() {
    vertx
        .eventBus()
        .<LeaseRevocation>consumer(LoraAddresses.revocations(base), m -> revoked(m.body()));
    vertx.eventBus().<ShardNotice>consumer(LoraAddresses.SHARDS, m -> noticed(m.body()));
    vertx.eventBus().<ShardHang>consumer(LoraAddresses.HANGS, m -> hangs(m.body()));
    List<Future<Void>> here = ShardNotice.local(vertx).stream().map(this::noticed).toList();
    return Future.all(here).compose(v -> followed.listen());
  }

  private void revoked(LeaseRevocation revocation) {
    List.copyOf(leases.values())
        .forEach(lease -> lease.revoked(revocation.shard(), revocation.grant()));
  }

  private Future<Void> noticed(ShardNotice notice) {
    return notice.shard() < shards.size()
        ? shards.get(notice.shard()).noticed(notice)
        : Future.succeededFuture(); // Of another grid: the hello would be refused.
  }

  private void hangs(ShardHang hang) {
    if (hang.shard() < shards.size()) {
      shards.get(hang.shard()).hangs(hang.incarnation());
    }
  }

  /** Whatever a shard granted before it ended or began again is void. */
  private void lost(InfiniLoraException cause) {
    List.copyOf(leases.values()).forEach(lease -> lease.lost(cause));
  }

  @Override
  public Future<Void> recover() {
    return Future.join(shards.stream().map(ShardLink::recover).toList()).mapEmpty();
  }

  @Override
  public Optional<AdapterId> find(String name) {
    return followed.find(name);
  }

  @Override
  public List<AdapterId> adapters() {
    return followed.ids();
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
            followed
                .status(adapter)
                .map(AdapterStatus::targets)
                .orElseGet(() -> EnumSet.allOf(LoraTarget.class)),
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
    List<StepPath.Announced> announced = new ArrayList<>(shards.size());
    try {
      announce(id, compact, rows, held, ofStep, deadlineNanos, announced);
    } catch (RuntimeException e) {
      announced.forEach(StepPath.Announced::abandon);
      throw e;
    }
    return new AnnouncedStep(announced);
  }

  private void announce(
      long id,
      RowGroups compact,
      int[] rows,
      List<ShardedLease> held,
      Set<LoraTarget> targets,
      long deadlineNanos,
      List<StepPath.Announced> announced) {
    for (int s = 0; s < shards.size(); s++) {
      int shard = s;
      int[] slots = held.stream().mapToInt(lease -> lease.at(shard).slot()).toArray();
      // All are of one incarnation: with a shard, all its leases are lost.
      UUID incarnation = held.getFirst().at(shard).incarnation();
      announced.add(
          shards
              .get(s)
              .announce(
                  ShardStep.of(id, incarnation, compact, rows, slots, targets, deadlineNanos)));
    }
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

  private record AnnouncedStep(List<StepPath.Announced> shards) implements Step {
    @Override
    public LoraPort port(OpStream ops) {
      List<ShardPort> ports = shards.stream().map(s -> s.port(ops)).toList();
      return ports.size() == 1 ? ports.getFirst() : new ShardedPort(ports, ops);
    }

    @Override
    public void abandon() {
      shards.forEach(StepPath.Announced::abandon);
    }
  }
}
