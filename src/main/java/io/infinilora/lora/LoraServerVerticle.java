package io.infinilora.lora;

import io.infinilora.core.LoraGrid;
import io.infinilora.wire.AdapterCall;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.VerticleBase;

/**
 * The coordinator of a LoRA Server: changes adapters on all shards or on none ({@link
 * AdapterChanges}), and tells base models what they may use ({@link ServedAdapters}). Changes of
 * one name come one after the other. A shard that begins again gets its adapters back from here
 * ({@link Restoration}). Its event loop owns all of that.
 */
public final class LoraServerVerticle extends VerticleBase {
  /** How often it says that it serves. */
  private static final long NOTICE_MILLIS = 1_000;

  private final LoraGrid grid;
  private ShardCalls shards;
  private ServedAdapters served;
  private AdapterChanges changes;
  private Restoration restoration;
  private boolean stopped;
  private boolean open;

  /** A coordinator of the shards of a grid, wherever they are deployed. */
  public LoraServerVerticle(LoraGrid grid) {
    this.grid = grid;
  }

  /**
   * Learns from what is saved and from the shards of this process which adapters there are, in case
   * this is not the first coordinator, and teaches them to shards that lack them; those of other
   * processes follow when they are heard of. Answers nobody before that: to whoever asks, adapters
   * that are not restored yet would seem to be gone.
   */
  @Override
  public Future<?> start() {
    return SavedAdapters.open(vertx)
        .compose(
            saved -> {
              assemble(saved);
              for (ShardNotice notice : ShardNotice.local(vertx)) {
                shards.shard(notice).ifPresent(shard -> shards.heard(shard, notice));
              }
              return restoration
                  .learnHere()
                  .compose(v -> listen())
                  .compose(
                      v ->
                          saved.list().isEmpty()
                              ? open()
                              : restoration.restoring().recover(cause -> Future.succeededFuture()));
            });
  }

  private void assemble(SavedAdapters saved) {
    shards = new ShardCalls(vertx, grid);
    served = new ServedAdapters(vertx);
    Turns turns = new Turns();
    changes =
        new AdapterChanges(
            shards, served, saved, turns, (shard, id) -> restoration.doubtful(shard, id));
    restoration = new Restoration(vertx, shards, served, saved, turns, changes, this::open);
  }

  private Future<Void> listen() {
    return vertx
        .eventBus()
        .<ShardNotice>consumer(LoraAddresses.SHARDS, m -> noticed(m.body()))
        .completion();
  }

  private void noticed(ShardNotice notice) {
    shards
        .shard(notice)
        .ifPresent(
            shard -> {
              switch (shards.heard(shard, notice)) {
                case KNOWN -> {}
                case BEGUN -> restoration.begun(shard);
                case ENDED -> restoration.ended(shard);
              }
            });
  }

  /** From now on others are answered. */
  private Future<Void> open() {
    if (open || stopped) {
      return Future.succeededFuture();
    }
    open = true;
    vertx.setPeriodic(NOTICE_MILLIS, t -> served.announce());
    return vertx
        .eventBus()
        .<AdapterCall>consumer(
            LoraAddresses.ADMIN,
            message ->
                changes
                    .answer(message.body())
                    .onSuccess(message::reply)
                    .onFailure(cause -> WireFailures.fail(message, cause)))
        .completion()
        .onSuccess(v -> served.announce());
  }

  /** Leaves what is not restored yet to the next coordinator. */
  @Override
  public Future<?> stop() {
    stopped = true;
    if (restoration != null) {
      restoration.stop();
    }
    return Future.succeededFuture();
  }
}
