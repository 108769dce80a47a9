package io.infinilora.lora;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.adapter.AdapterTiers;
import io.infinilora.adapter.LayerClock;
import io.infinilora.adapter.SourceResolver;
import io.infinilora.backend.Backend;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.metrics.LoraMetrics;
import io.infinilora.wire.BaseEnded;
import io.infinilora.wire.LeaseRelease;
import io.infinilora.wire.LeaseRenewal;
import io.infinilora.wire.LeaseRequest;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.ShardHang;
import io.infinilora.wire.ShardNotice;
import io.vertx.core.Future;
import io.vertx.core.VerticleBase;
import io.vertx.core.eventbus.EventBus;
import io.vertx.core.eventbus.MessageConsumer;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.Executor;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * One shard of the LoRA Server: holds its part of every adapter within a budget of its own, grants
 * leases on them and has its driver thread compute deltas. The event loop never computes and never
 * waits.
 */
public final class LoraShardVerticle extends VerticleBase {
  private static final Logger log = LoggerFactory.getLogger(LoraShardVerticle.class);

  /** How often leases and waiting claims are looked at. */
  private static final long TICK_MILLIS = 500;

  /** How often it says that it serves. */
  private static final long NOTICE_MILLIS = 1_000;

  private final ModelSpec spec;
  private final LoraShard shard;
  private final Backend backend;
  private final AdapterBudgets budgets;
  private final int threads;
  private final SourceResolver sources;
  private final LoraMetrics metrics;
  private final Optional<FrameServer> frames;
  private final LayerClock clock = new LayerClock();
  private final List<MessageConsumer<?>> consumers = new ArrayList<>();
  private final UUID incarnation = UUID.randomUUID();
  private LoraDriver driver;
  private AdapterTiers tiers;
  private ShardLeases leases;
  private ShardAdmin admin;
  private RemoteBases remoteBases;
  private ShardNotice notice;
  private long noticeTimer;
  private boolean stopping;

  /** A shard that takes every source for a directory and is not measured. */
  public LoraShardVerticle(
      ModelSpec spec, LoraShard shard, Backend backend, AdapterBudgets budgets, int threads) {
    this(
        spec,
        shard,
        backend,
        budgets,
        threads,
        SourceResolver.DIRECTORIES,
        LoraMetrics.NONE,
        Optional.empty());
  }

  /**
   * A shard without adapters.
   *
   * @param threads CPU threads that compute deltas
   * @param sources finds adapters' files
   * @param frames takes the frames of base models in other processes, of the same {@link
   *     io.vertx.core.Vertx}
   */
  public LoraShardVerticle(
      ModelSpec spec,
      LoraShard shard,
      Backend backend,
      AdapterBudgets budgets,
      int threads,
      SourceResolver sources,
      LoraMetrics metrics,
      Optional<FrameServer> frames) {
    this.frames = frames;
    this.spec = spec;
    this.shard = shard;
    this.backend = backend;
    this.budgets = budgets;
    this.threads = threads;
    this.sources = sources;
    this.metrics = metrics;
  }

  @Override
  public Future<?> start() {
    // Memory is reserved on a worker thread: that takes a while.
    return vertx.executeBlocking(this::allocate).compose(v -> served());
  }

  /** Whoever cannot listen keeps nothing of what was allocated. */
  private Future<Void> served() {
    return Future.succeededFuture()
        .compose(v -> listen())
        .<Void>mapEmpty()
        .recover(e -> stop().transform(stopped -> Future.failedFuture(e)));
  }

  private Void allocate() {
    String name = "lora-" + shard.index();
    tiers =
        new AdapterTiers(
            name + "-loader",
            spec,
            shard,
            backend,
            budgets,
            sources,
            task -> context.runOnContext(v -> task.run()),
            task -> driver.atSafePoint(task),
            clock::nanos);
    try {
      driver =
          new LoraDriver(
              name + "-driver", backend.openStream(name, threads), tiers.residents(), clock);
    } catch (RuntimeException | Error e) {
      tiers.close();
      throw e;
    }
    return null;
  }

  private Future<?> listen() {
    Executor loop = task -> context.runOnContext(v -> task.run());
    leases = new ShardLeases(vertx, shard, incarnation, tiers, driver, loop);
    admin = new ShardAdmin(vertx, tiers);
    metrics.watchMemory(shard.toString(), tiers::stats);
    EventBus bus = vertx.eventBus();
    consumers.add(
        bus.<LoraLayerRequest>localConsumer(
            LoraAddresses.requests(incarnation), m -> compute(m.body())));
    consumers.add(bus.<LeaseRequest>consumer(LoraAddresses.leases(incarnation), leases::request));
    consumers.add(
        bus.<LeaseRelease>consumer(
            LoraAddresses.releases(incarnation), m -> leases.release(m.body())));
    consumers.add(
        bus.<LeaseRenewal>consumer(
            LoraAddresses.renewals(incarnation), m -> leases.renew(m.body().session())));
    consumers.add(
        bus.<BaseEnded>consumer(LoraAddresses.ends(incarnation), m -> ended(m.body().session())));
    consumers.add(bus.<ShardCall>consumer(LoraAddresses.shardAdmin(incarnation), admin::take));
    vertx.setPeriodic(TICK_MILLIS, t -> tick());
    new DriverWatch(driver::atSafePoint, loop, this::hangs).start(vertx);
    remoteBases =
        new RemoteBases(
            vertx,
            backend,
            spec,
            shard,
            incarnation,
            session -> context.runOnContext(v -> ended(session)));
    frames.ifPresent(server -> server.serve(remoteBases));
    return Future.all(consumers.stream().map(MessageConsumer::completion).toList())
        .onSuccess(v -> announce());
  }

  /** From now on others may talk to it. */
  private void announce() {
    notice =
        new ShardNotice(
            shard.index(),
            incarnation,
            System.currentTimeMillis(),
            frames.map(FrameServer::address).orElse(null),
            true);
    notice.enter(vertx);
    publish(notice);
    noticeTimer = vertx.setPeriodic(NOTICE_MILLIS, t -> publish(notice));
  }

  private void publish(ShardNotice what) {
    vertx.eventBus().publish(LoraAddresses.SHARDS, what);
  }

  private void ended(String session) {
    if (stopping) {
      return; // Nobody has leases any more.
    }
    leases.ended(session);
  }

  /** Bases need not wait for it; it grants leases again as soon as its driver goes on. */
  private void hangs() {
    log.warn("LoRA shard {}: its driver hangs", shard);
    vertx.eventBus().publish(LoraAddresses.HANGS, new ShardHang(shard.index(), incarnation));
  }

  private void compute(LoraLayerRequest request) {
    if (request.step().incarnation().equals(incarnation)) {
      driver.submit(request);
    } else {
      driver.refuse(
          request.step(),
          new InfiniLoraException(
              ErrorCode.UNAVAILABLE, "LoRA shard %s has restarted".formatted(shard)));
    }
  }

  private void tick() {
    long now = System.nanoTime();
    tiers.tick(now);
    leases.expire(now);
  }

  @Override
  public Future<?> stop() {
    stopping = true;
    // First of all: whoever takes this one's place is to get all messages.
    consumers.forEach(MessageConsumer::unregister);
    if (notice != null) {
      vertx.cancelTimer(noticeTimer);
      notice.leave(vertx);
      publish(notice.ended());
    }
    if (remoteBases != null) {
      frames.ifPresent(server -> server.end(remoteBases));
    }
    if (admin != null) {
      admin.close();
    }
    return vertx.executeBlocking(
        () -> {
          driver.close();
          tiers.close();
          return null;
        });
  }
}
