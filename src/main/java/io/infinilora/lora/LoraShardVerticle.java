package io.infinilora.lora;

import io.infinilora.adapter.AdapterBudgets;
import io.infinilora.adapter.AdapterCache;
import io.infinilora.adapter.AdapterGeneration;
import io.infinilora.adapter.AdapterTiers;
import io.infinilora.adapter.ClaimListener;
import io.infinilora.adapter.LayerClock;
import io.infinilora.adapter.ResidentAdapter;
import io.infinilora.adapter.SourceResolver;
import io.infinilora.backend.Backend;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.metrics.LoraMetrics;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.BaseEnded;
import io.infinilora.wire.LeaseGrant;
import io.infinilora.wire.LeaseRelease;
import io.infinilora.wire.LeaseRenewal;
import io.infinilora.wire.LeaseRequest;
import io.infinilora.wire.LeaseRevocation;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.ShardHang;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.VerticleBase;
import io.vertx.core.WorkerExecutor;
import io.vertx.core.eventbus.EventBus;
import io.vertx.core.eventbus.Message;
import io.vertx.core.eventbus.MessageConsumer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
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

  /** Silence after which a base model is taken for dead; it renews far more often. */
  private static final Duration LEASE_PATIENCE = Duration.ofSeconds(10);

  /** How often it says that it serves. */
  private static final long NOTICE_MILLIS = 1_000;

  /** How long a generation that was replaced stays for requests that chose it just before. */
  private static final long GRACE_MILLIS = 2_000;

  /** Adapters that are read, or downloaded, at the same time. */
  private static final int READERS = 4;

  private final ModelSpec spec;
  private final LoraShard shard;
  private final Backend backend;
  private final AdapterBudgets budgets;
  private final int threads;
  private final SourceResolver sources;
  private final LoraMetrics metrics;
  private final Optional<FrameServer> frames;
  private final LayerClock clock = new LayerClock();
  private final Map<AdapterId, AdapterGeneration> prepared = new HashMap<>();
  private final List<MessageConsumer<?>> consumers = new ArrayList<>();
  private final UUID incarnation = UUID.randomUUID();
  private LoraDriver driver;
  private AdapterTiers tiers;
  private LeaseBook leases;
  private WorkerExecutor reader;
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
    return vertx.executeBlocking(this::allocate).compose(v -> listen());
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
    leases = new LeaseBook(tiers, LEASE_PATIENCE.toNanos());
    reader = vertx.createSharedWorkerExecutor("adapter-reader", READERS, 1, TimeUnit.DAYS);
    metrics.watchMemory(shard.toString(), tiers::stats);
    EventBus bus = vertx.eventBus();
    consumers.add(
        bus.<LoraLayerRequest>localConsumer(
            LoraAddresses.requests(incarnation), m -> compute(m.body())));
    consumers.add(bus.<LeaseRequest>consumer(LoraAddresses.leases(incarnation), this::lease));
    consumers.add(
        bus.<LeaseRelease>consumer(LoraAddresses.releases(incarnation), m -> release(m.body())));
    consumers.add(
        bus.<LeaseRenewal>consumer(
            LoraAddresses.renewals(incarnation),
            m -> leases.renew(m.body().session(), System.nanoTime())));
    consumers.add(
        bus.<BaseEnded>consumer(LoraAddresses.ends(incarnation), m -> ended(m.body().session())));
    consumers.add(bus.<ShardCall>consumer(LoraAddresses.shardAdmin(incarnation), this::admin));
    vertx.setPeriodic(TICK_MILLIS, t -> tick());
    new DriverWatch(driver::atSafePoint, task -> context.runOnContext(v -> task.run()), this::hangs)
        .start(vertx);
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
    int ended = leases.closeAll(session);
    if (ended > 0) {
      log.info("shard {}: {} leases have ended with their session", shard, ended);
    }
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

  private void release(LeaseRelease release) {
    if (release.grant().incarnation().equals(incarnation)) {
      leases.close(release.session(), release.grant().lease());
    }
  }

  private void tick() {
    long now = System.nanoTime();
    tiers.tick(now);
    int ended = leases.expire(now);
    if (ended > 0) {
      log.warn("shard {}: {} leases of silent base models have ended", shard, ended);
    }
  }

  private void lease(Message<LeaseRequest> message) {
    LeaseRequest request = message.body();
    long now = System.nanoTime();
    long deadline = now + request.waitNanos();
    long lease = leases.next();
    try {
      AdapterCache.Claim claim =
          tiers.claim(
              request.adapter(),
              now,
              deadline,
              new ClaimListener() {
                private int slot;

                @Override
                public void admissible(ResidentAdapter adapter) {
                  slot = adapter.slot();
                  // Only a driver that lives grants: nobody is to wait for one that hangs.
                  driver.atSafePoint(
                      () -> context.runOnContext(v -> grantInTime(message, grant(), deadline)));
                }

                private LeaseGrant grant() {
                  return new LeaseGrant(incarnation, lease, slot);
                }

                @Override
                public void failed(InfiniLoraException cause) {
                  // The claim may fail before it is written down, so the book is told later.
                  context.runOnContext(v -> leases.close(request.session(), lease));
                  WireFailures.fail(message, cause);
                }

                @Override
                public void revoked() {
                  // Through the driver as well, so that it does not overtake the grant.
                  driver.atSafePoint(
                      () -> context.runOnContext(v -> revoke(request.base(), grant())));
                }
              });
      leases.open(request.session(), lease, claim, now);
    } catch (InfiniLoraException e) {
      WireFailures.fail(message, e);
    }
  }

  /** The base may have stopped waiting while the driver was busy. */
  private void grantInTime(Message<LeaseRequest> message, LeaseGrant grant, long deadline) {
    if (System.nanoTime() - deadline < 0) {
      message.reply(grant);
      return;
    }
    leases.close(message.body().session(), grant.lease());
    WireFailures.fail(
        message,
        new InfiniLoraException(
            ErrorCode.DEADLINE_EXCEEDED,
            "LoRA shard %s was too busy to lease %s in time"
                .formatted(shard, message.body().adapter())));
  }

  private void revoke(String base, LeaseGrant grant) {
    vertx
        .eventBus()
        .send(LoraAddresses.revocations(base), new LeaseRevocation(shard.index(), grant));
  }

  private void admin(Message<ShardCall> message) {
    answer(message.body())
        .onSuccess(message::reply)
        .onFailure(cause -> WireFailures.fail(message, cause));
  }

  private Future<?> answer(ShardCall call) {
    try {
      return switch (call) {
        case ShardCall.Prepare p -> prepare(p);
        case ShardCall.Commit c -> commit(c.id());
        case ShardCall.Abort a -> {
          prepared.remove(a.id());
          yield Future.succeededFuture();
        }
        case ShardCall.Withdraw w -> withdraw(w.name());
        case ShardCall.Pin p -> {
          tiers.pin(p.name(), p.pinned());
          yield status(p.name());
        }
        case ShardCall.Prefetch p -> {
          tiers.prefetch(p.name());
          yield status(p.name());
        }
        case ShardCall.Places p ->
            Future.succeededFuture(
                new AdapterListing(0, tiers.list().stream().map(tiers::status).toList()));
        case ShardCall.Status s -> status(s.name());
      };
    } catch (InfiniLoraException e) {
      return Future.failedFuture(e);
    }
  }

  private Future<?> prepare(ShardCall.Prepare call) {
    return reader
        .executeBlocking(() -> tiers.read(call.adapter()), false)
        .map(
            read -> {
              prepared.put(read.generation().id(), read.generation());
              return tiers.loaded(read);
            });
  }

  private Future<?> commit(AdapterId id) {
    AdapterGeneration generation = prepared.remove(id);
    if (generation == null) {
      throw new InfiniLoraException(ErrorCode.CONFLICT, "adapter " + id + " was not prepared");
    }
    tiers.publish(generation).ifPresent(this::retireLater);
    return status(id.name());
  }

  private Future<?> withdraw(String name) {
    AdapterGeneration generation =
        tiers
            .withdraw(name)
            .orElseThrow(
                () ->
                    new InfiniLoraException(
                        ErrorCode.MODEL_NOT_FOUND, "there is no adapter named " + name));
    retireLater(generation);
    Promise<Void> unused = Promise.promise();
    tiers.whenUnused(generation, unused::complete);
    return unused.future();
  }

  private void retireLater(AdapterGeneration generation) {
    vertx.setTimer(GRACE_MILLIS, t -> tiers.retire(generation));
  }

  private Future<?> status(String name) {
    return Future.succeededFuture(
        tiers.status(
            tiers
                .current(name)
                .orElseThrow(
                    () ->
                        new InfiniLoraException(
                            ErrorCode.MODEL_NOT_FOUND, "there is no adapter named " + name))));
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
    if (reader != null) {
      reader.close();
    }
    return vertx.executeBlocking(
        () -> {
          driver.close();
          tiers.close();
          return null;
        });
  }
}
