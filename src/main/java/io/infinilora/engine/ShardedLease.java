package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraTarget;
import io.infinilora.wire.LeaseGrant;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.function.BooleanSupplier;

/**
 * A hold on an adapter at every shard: granted when all have, or not at all, and lost with any of
 * them. Event loop only.
 */
final class ShardedLease implements LoraRuntime.Lease {
  private final int slot;
  private final Set<LoraTarget> targets;
  private final List<ShardLink> shards;
  private final BooleanSupplier known;
  private final Runnable ended;
  private final List<Future<ShardLink.Held>> grants = new ArrayList<>();
  private LoraRuntime.LeaseListener listener;
  private boolean lost;
  private boolean released;

  /**
   * A lease that is not asked for yet.
   *
   * @param targets what the adapter changes
   * @param known whether the adapter should be known to the shards
   * @param ended is run when it is over
   */
  ShardedLease(
      int slot,
      Set<LoraTarget> targets,
      List<ShardLink> shards,
      BooleanSupplier known,
      Runnable ended) {
    this.slot = slot;
    this.targets = targets;
    this.shards = shards;
    this.known = known;
    this.ended = ended;
  }

  void request(AdapterId adapter, long deadlineNanos, LoraRuntime.LeaseListener newListener) {
    listener = newListener;
    for (ShardLink shard : shards) {
      grants.add(shard.lease(adapter, deadlineNanos));
    }
    Future.join(grants)
        .onSuccess(
            all -> {
              if (!over()) {
                listener.granted();
              }
            })
        .onFailure(
            cause -> {
              boolean told = over();
              release();
              if (!told) {
                listener.failed(classified(WireFailures.of(cause)));
              }
            });
  }

  private boolean over() {
    return lost || released;
  }

  /** A shard that is gone may come back, and one that has just begun learns its adapters soon. */
  private InfiniLoraException classified(InfiniLoraException cause) {
    boolean passing =
        cause.code() == ErrorCode.UNAVAILABLE
            || (cause.code() == ErrorCode.MODEL_NOT_FOUND && known.getAsBoolean());
    return passing ? LoraSideException.of(cause) : cause;
  }

  /** A shard is gone, and with it what it granted or was asked for. */
  void lost(InfiniLoraException cause) {
    if (!over()) {
      lost = true;
      listener.failed(LoraSideException.of(cause));
    }
  }

  /** Passes a shard's revocation on if it is about this lease. */
  void revoked(int shard, LeaseGrant revoked) {
    Future<ShardLink.Held> grant = grants.get(shard);
    if (!over() && grant.succeeded() && grant.result().grant().equals(revoked)) {
      listener.revoked();
    }
  }

  @Override
  public int slot() {
    return slot;
  }

  Set<LoraTarget> targets() {
    return targets;
  }

  /** What a shard granted, once all have. */
  LeaseGrant at(int shard) {
    return grants.get(shard).result().grant();
  }

  /** Also ends what a shard grants only later. */
  @Override
  public void release() {
    if (released) {
      return;
    }
    released = true;
    ended.run();
    for (int s = 0; s < shards.size(); s++) {
      grants.get(s).onSuccess(shards.get(s)::release);
    }
  }
}
