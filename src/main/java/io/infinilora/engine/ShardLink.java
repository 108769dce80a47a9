package io.infinilora.engine;

import io.infinilora.backend.Backend;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.RowGroups;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.wire.BaseEnded;
import io.infinilora.wire.LeaseGrant;
import io.infinilora.wire.LeaseRelease;
import io.infinilora.wire.LeaseRenewal;
import io.infinilora.wire.LeaseRequest;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.LoraExchange;
import io.infinilora.wire.LoraLayerRequest;
import io.infinilora.wire.LoraStep;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import io.vertx.core.eventbus.Message;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.TimeUnit;

/** A base model's connection to one shard of the LoRA Server. Event loop, except where noted. */
final class ShardLink {
  /** Far more often than a shard's patience with silent bases. */
  private static final long RENEWAL_MILLIS = 2_000;

  /** The shard itself gives up at the request's deadline; this is for shards that are gone. */
  private static final long REPLY_MARGIN_MILLIS = 2_000;

  private final String base;
  private final Vertx vertx;
  private final Backend backend;
  private final ModelSpec spec;
  private final LoraShard shard;
  private final int rows;
  private final long renewal;
  private LoraExchange exchange;

  /**
   * Closed exchanges that a server was inside of when last looked at; one per server that hangs.
   */
  private final List<LoraExchange> haunted = new ArrayList<>();

  /** Allocates the exchange; any thread that may block. */
  ShardLink(String base, Vertx vertx, Backend backend, ModelSpec spec, LoraShard shard, int rows) {
    this.base = base;
    this.vertx = vertx;
    this.backend = backend;
    this.spec = spec;
    this.shard = shard;
    this.rows = rows;
    this.exchange = allocate();
    this.renewal =
        vertx.setPeriodic(
            RENEWAL_MILLIS,
            t -> vertx.eventBus().send(LoraAddresses.renewals(shard), new LeaseRenewal(base)));
  }

  private LoraExchange allocate() {
    return new LoraExchange(backend, spec, shard, rows);
  }

  /** Which shard it leads to. */
  LoraShard shard() {
    return shard;
  }

  /** Asks for a lease; completes when the shard's first layer is ready. */
  Future<LeaseGrant> lease(AdapterId adapter, long deadlineNanos) {
    long wait = Math.max(1, deadlineNanos - System.nanoTime());
    return vertx
        .eventBus()
        .<LeaseGrant>request(
            LoraAddresses.leases(shard),
            new LeaseRequest(base, adapter, wait),
            new DeliveryOptions()
                .setSendTimeout(TimeUnit.NANOSECONDS.toMillis(wait) + REPLY_MARGIN_MILLIS))
        .map(Message::body);
  }

  /** Ends a lease. */
  void release(LeaseGrant grant) {
    vertx.eventBus().send(LoraAddresses.releases(shard), new LeaseRelease(base, grant));
  }

  /** Posts a step's layers to the shard, as far as it holds them. */
  Announced announce(
      long id,
      UUID incarnation,
      RowGroups compact,
      int[] stepRows,
      int[] slots,
      Set<LoraTarget> targets,
      long deadlineNanos) {
    LoraStep step = LoraStep.of(id, exchange, incarnation, compact, slots, targets, deadlineNanos);
    for (int layer = shard.firstLayer(spec); layer < shard.endLayer(spec); layer++) {
      vertx.eventBus().send(LoraAddresses.requests(shard), new LoraLayerRequest(step, layer));
    }
    return new Announced(step, stepRows);
  }

  /** The shard is gone, or a new one is in its place: a step in flight fails at once. */
  void lost(InfiniLoraException cause) {
    exchange.close(cause);
  }

  /** Puts an open exchange in the place of a closed one, without waiting for any server. */
  Future<Void> recover() {
    if (exchange.isOpen()) {
      return Future.succeededFuture();
    }
    haunted.add(exchange);
    Optional<LoraExchange> quiet = haunted.stream().filter(LoraExchange::isQuiet).findFirst();
    if (quiet.isPresent()) {
      haunted.remove(quiet.get());
      exchange = quiet.get().reopened();
      return Future.succeededFuture();
    }
    return vertx
        .executeBlocking(this::allocate)
        .onSuccess(fresh -> exchange = fresh)
        .onFailure(e -> haunted.remove(exchange))
        .mapEmpty();
  }

  /** The base ends: whatever it holds or has asked for at the shard ends, too. */
  void close() {
    vertx.cancelTimer(renewal);
    vertx.eventBus().send(LoraAddresses.ends(shard), new BaseEnded(base));
  }

  /** A step that the shard knows of. */
  record Announced(LoraStep step, int[] rows) {

    /** The base's side of it; driver thread. */
    ExchangePort port(OpStream ops) {
      return new ExchangePort(step, rows, ops);
    }

    /** The base has given the step up; driver thread. */
    void abandon() {
      step.exchange()
          .close(
              new InfiniLoraException(
                  ErrorCode.UNAVAILABLE, "LoRA step %d was given up".formatted(step.id())));
    }
  }
}
