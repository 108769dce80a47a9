package io.infinilora.lora;

import io.infinilora.adapter.AdapterCache;
import io.infinilora.adapter.AdapterTiers;
import io.infinilora.adapter.ClaimListener;
import io.infinilora.adapter.ResidentAdapter;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.wire.LeaseGrant;
import io.infinilora.wire.LeaseRelease;
import io.infinilora.wire.LeaseRequest;
import io.infinilora.wire.LeaseRevocation;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.Message;
import java.time.Duration;
import java.util.UUID;
import java.util.concurrent.Executor;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Grants base models leases on the adapters of one shard. Event loop only. */
final class ShardLeases {
  private static final Logger log = LoggerFactory.getLogger(ShardLeases.class);

  /** Silence after which a base model is taken for dead; it renews far more often. */
  private static final Duration PATIENCE = Duration.ofSeconds(10);

  private final Vertx vertx;
  private final LoraShard shard;
  private final UUID incarnation;
  private final AdapterTiers tiers;
  private final LoraDriver driver;
  private final Executor loop;
  private final LeaseBook book;

  /**
   * No leases yet.
   *
   * @param loop runs a task on the event loop, later
   */
  ShardLeases(
      Vertx vertx,
      LoraShard shard,
      UUID incarnation,
      AdapterTiers tiers,
      LoraDriver driver,
      Executor loop) {
    this.vertx = vertx;
    this.shard = shard;
    this.incarnation = incarnation;
    this.tiers = tiers;
    this.driver = driver;
    this.loop = loop;
    book = new LeaseBook(tiers, PATIENCE.toNanos());
  }

  /** Answers a request with a grant, or with why there is none. */
  void request(Message<LeaseRequest> message) {
    LeaseRequest request = message.body();
    long now = System.nanoTime();
    long deadline = now + request.waitNanos();
    long lease = book.next();
    try {
      AdapterCache.Claim claim =
          tiers.claim(request.adapter(), now, deadline, new Holder(message, lease, deadline));
      book.open(request.session(), lease, claim, now);
    } catch (RuntimeException e) { // A fault of ours, too: somebody waits for an answer.
      WireFailures.fail(message, e);
    }
  }

  /** What a base model hears of its claim. */
  private final class Holder implements ClaimListener {
    private final Message<LeaseRequest> message;
    private final long lease;
    private final long deadline;
    private int slot;

    Holder(Message<LeaseRequest> message, long lease, long deadline) {
      this.message = message;
      this.lease = lease;
      this.deadline = deadline;
    }

    @Override
    public void admissible(ResidentAdapter adapter) {
      slot = adapter.slot();
      // Only a driver that lives grants: nobody is to wait for one that hangs.
      driver.atSafePoint(() -> loop.execute(() -> grantInTime(message, grant(), deadline)));
    }

    private LeaseGrant grant() {
      return new LeaseGrant(incarnation, lease, slot);
    }

    @Override
    public void failed(InfiniLoraException cause) {
      // The claim may fail before it is written down, so the book is told later.
      loop.execute(() -> book.close(message.body().session(), lease));
      WireFailures.fail(message, cause);
    }

    @Override
    public void revoked() {
      // Through the driver as well, so that it does not overtake the grant.
      driver.atSafePoint(() -> loop.execute(() -> revoke(message.body().base(), grant())));
    }
  }

  /** The base may have stopped waiting while the driver was busy. */
  private void grantInTime(Message<LeaseRequest> message, LeaseGrant grant, long deadline) {
    if (System.nanoTime() - deadline < 0) {
      message.reply(grant);
      return;
    }
    book.close(message.body().session(), grant.lease());
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

  void release(LeaseRelease release) {
    if (release.grant().incarnation().equals(incarnation)) {
      book.close(release.session(), release.grant().lease());
    }
  }

  /** A base lives. */
  void renew(String session) {
    book.renew(session, System.nanoTime());
  }

  /** A session has ended, and its leases with it. */
  void ended(String session) {
    int ended = book.closeAll(session);
    if (ended > 0) {
      log.info("shard {}: {} leases have ended with their session", shard, ended);
    }
  }

  /** Ends the leases of bases that are silent; to be called often. */
  void expire(long now) {
    int ended = book.expire(now);
    if (ended > 0) {
      log.warn("shard {}: {} leases of silent base models have ended", shard, ended);
    }
  }
}
