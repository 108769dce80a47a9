package io.infinilora.lora;

import io.infinilora.adapter.AdapterGeneration;
import io.infinilora.adapter.AdapterTiers;
import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.WorkerExecutor;
import io.vertx.core.eventbus.Message;
import java.util.HashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;

/** Changes the adapters of one shard, as a coordinator asks it to. Event loop only. */
final class ShardAdmin {
  /** How long a generation that was replaced stays for requests that chose it just before. */
  private static final long GRACE_MILLIS = 2_000;

  /** Adapters that are read, or downloaded, at the same time. */
  private static final int READERS = 4;

  private final Vertx vertx;
  private final AdapterTiers tiers;
  private final WorkerExecutor reader;
  private final Map<AdapterId, AdapterGeneration> prepared = new HashMap<>();

  ShardAdmin(Vertx vertx, AdapterTiers tiers) {
    this.vertx = vertx;
    this.tiers = tiers;
    reader = vertx.createSharedWorkerExecutor("adapter-reader", READERS, 1, TimeUnit.DAYS);
  }

  /** Does what a message asks for, and answers it. */
  void take(Message<ShardCall> message) {
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
    AdapterGeneration generation = tiers.withdraw(name).orElseThrow(() -> unknown(name));
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
        tiers.status(tiers.current(name).orElseThrow(() -> unknown(name))));
  }

  private static InfiniLoraException unknown(String name) {
    return new InfiniLoraException(ErrorCode.MODEL_NOT_FOUND, "there is no adapter named " + name);
  }

  /** Reads no further adapters. */
  void close() {
    reader.close();
  }
}
