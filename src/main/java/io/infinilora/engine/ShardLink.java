package io.infinilora.engine;

import io.infinilora.backend.Backend;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;
import io.infinilora.wire.BaseEnded;
import io.infinilora.wire.LeaseGrant;
import io.infinilora.wire.LeaseRelease;
import io.infinilora.wire.LeaseRenewal;
import io.infinilora.wire.LeaseRequest;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.ShardWatch;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import io.vertx.core.eventbus.Message;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.function.Consumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A base model's link to one shard of the LoRA Server: follows its notices, asks for leases, and
 * announces steps on whichever {@link StepPath} leads there. Event loop, except where noted.
 */
final class ShardLink {
  private static final Logger log = LoggerFactory.getLogger(ShardLink.class);

  /** Far more often than a shard's patience with silent bases. */
  private static final long RENEWAL_MILLIS = 2_000;

  /** The shard itself gives up at the request's deadline; this is for shards that are gone. */
  private static final long REPLY_MARGIN_MILLIS = 2_000;

  private final String base;
  private final Vertx vertx;
  private final LoraShard shard;
  private final Consumer<InfiniLoraException> lost;
  private final SharedMemoryPath sharedMemory;
  private final FramePath frames;
  private final ShardWatch watch = new ShardWatch();
  private final long renewal;
  private StepPath path;
  private boolean silent;

  /**
   * A link that leads nowhere until a notice comes.
   *
   * @param lost is told when whatever the shard has granted is void
   */
  ShardLink(
      String base,
      Vertx vertx,
      Backend backend,
      ModelSpec spec,
      LoraShard shard,
      int rows,
      Consumer<InfiniLoraException> lost) {
    this.base = base;
    this.vertx = vertx;
    this.shard = shard;
    this.lost = lost;
    sharedMemory =
        new SharedMemoryPath(base + "/" + UUID.randomUUID(), vertx, backend, spec, shard, rows);
    frames = new FramePath(base, vertx, backend, spec, shard, rows, lost);
    renewal = vertx.setPeriodic(RENEWAL_MILLIS, t -> renew());
  }

  private void renew() {
    if (watch.isSilent(System.nanoTime())) {
      if (!silent) {
        silent = true;
        giveUp("is silent");
      }
      return;
    }
    silent = false;
    if (isOpen()) {
      vertx
          .eventBus()
          .send(
              LoraAddresses.renewals(watch.current().incarnation()),
              new LeaseRenewal(path.session()));
    }
  }

  private boolean isOpen() {
    return path != null && path.isOpen();
  }

  /**
   * Follows a notice.
   *
   * @return completes when there is nothing more to do for it
   */
  Future<Void> noticed(ShardNotice notice) {
    return switch (watch.heard(notice, System.nanoTime())) {
      case KNOWN -> Future.succeededFuture();
      case ENDED -> {
        lost("is gone");
        path = null;
        yield Future.succeededFuture();
      }
      case BEGUN -> {
        lost("has restarted");
        yield lead(notice);
      }
    };
  }

  /** The shard computes nothing for now. */
  void hangs(UUID incarnation) {
    ShardNotice current = watch.current();
    if (current != null && current.incarnation().equals(incarnation)) {
      giveUp("hangs");
    }
  }

  /** Nobody waits for the step in flight any more; leases are granted anew when it goes on. */
  private void giveUp(String why) {
    if (path != null) {
      InfiniLoraException cause =
          new InfiniLoraException(ErrorCode.UNAVAILABLE, "LoRA shard %s %s".formatted(shard, why));
      path.giveUp(cause);
      lost.accept(cause);
    }
  }

  private Future<Void> lead(ShardNotice notice) {
    if (notice.isLocal(vertx)) {
      path = sharedMemory;
    } else if (notice.frames() != null) {
      path = frames;
    } else {
      path = null;
      log.warn("LoRA shard {} is in another process and takes no frames", shard);
      return Future.succeededFuture();
    }
    return path.lead(notice);
  }

  private void lost(String how) {
    if (path != null) {
      InfiniLoraException cause =
          new InfiniLoraException(ErrorCode.UNAVAILABLE, "LoRA shard %s %s".formatted(shard, how));
      path.lost(cause);
      lost.accept(cause);
    }
  }

  private InfiniLoraException notThere() {
    String why = path == null || path.trouble().isEmpty() ? "" : ": " + path.trouble();
    return new InfiniLoraException(
        ErrorCode.UNAVAILABLE, "LoRA shard %s is not there%s".formatted(shard, why));
  }

  /**
   * What a shard granted.
   *
   * @param session under which
   */
  record Held(String session, LeaseGrant grant) {}

  /** Asks for a lease; completes when the shard's first layer is ready, never before it returns. */
  Future<Held> lease(AdapterId adapter, long deadlineNanos) {
    if (!isOpen()) {
      Promise<Held> refused = Promise.promise();
      InfiniLoraException cause = notThere();
      vertx.runOnContext(v -> refused.fail(cause));
      return refused.future();
    }
    String session = path.session();
    long wait = Math.max(1, deadlineNanos - System.nanoTime());
    return vertx
        .eventBus()
        .<LeaseGrant>request(
            LoraAddresses.leases(watch.current().incarnation()),
            new LeaseRequest(base, session, adapter, wait),
            new DeliveryOptions()
                .setSendTimeout(TimeUnit.NANOSECONDS.toMillis(wait) + REPLY_MARGIN_MILLIS))
        .map(Message::body)
        .map(grant -> new Held(session, grant));
  }

  /** Ends a lease. */
  void release(Held held) {
    vertx
        .eventBus()
        .send(
            LoraAddresses.releases(held.grant().incarnation()),
            new LeaseRelease(held.session(), held.grant()));
  }

  /** Announces a step to the shard, as far as it holds its layers. */
  StepPath.Announced announce(ShardStep step) {
    if (!isOpen()) {
      throw LoraSideException.of(notThere());
    }
    return path.announce(step);
  }

  /** Makes steps possible again after one was given up, without waiting for the shard. */
  Future<Void> recover() {
    return path == null ? Future.succeededFuture() : path.recover();
  }

  /** The base ends: whatever it holds or has asked for at the shard ends, too. Worker thread. */
  void close() {
    vertx.cancelTimer(renewal);
    if (isOpen()) {
      vertx
          .eventBus()
          .send(LoraAddresses.ends(watch.current().incarnation()), new BaseEnded(path.session()));
    }
    sharedMemory.close();
    frames.close();
  }
}
