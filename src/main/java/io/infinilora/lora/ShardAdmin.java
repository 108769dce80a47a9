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
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Changes the adapters of one shard, as a coordinator asks it to. Event loop only. */
final class ShardAdmin {
  private static final Logger log = LoggerFactory.getLogger(ShardAdmin.class);

  /** How long a generation that was replaced stays for requests that chose it just before. */
  private static final long GRACE_MILLIS = 2_000;

  /** Adapters that are read, or downloaded, at the same time. */
  private static final int READERS = 4;

  private final Vertx vertx;
  private final AdapterTiers tiers;
  private final WorkerExecutor reader;
  private final Map<AdapterId, AdapterGeneration> prepared = new HashMap<>();

  /** By name: the last commit, as long as it may be taken back. */
  private final Map<String, Commit> commits = new HashMap<>();

  /** What was committed, and what was current before. */
  private record Commit(AdapterId id, Optional<AdapterGeneration> before, boolean pinned) {}

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
        case ShardCall.Revert r -> {
          revert(r.id());
          yield Future.succeededFuture();
        }
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
    } catch (RuntimeException e) { // A fault of ours, too: somebody waits for an answer.
      return Future.failedFuture(e);
    }
  }

  private Future<?> prepare(ShardCall.Prepare call) {
    return reader
        .executeBlocking(() -> tiers.read(call.adapter()), false)
        .map(
            read -> {
              commits.remove(call.adapter().name());
              prepared.put(read.generation().id(), read.generation());
              return tiers.loaded(read);
            });
  }

  private Future<?> commit(AdapterId id) {
    AdapterGeneration generation = prepared.remove(id);
    if (generation == null) {
      throw new InfiniLoraException(ErrorCode.CONFLICT, "adapter " + id + " was not prepared");
    }
    Optional<AdapterGeneration> before = tiers.current(id.name());
    boolean pinned = before.isPresent() && tiers.status(before.get()).pinned();
    commits.put(id.name(), new Commit(id, before, pinned));
    tiers.publish(generation).ifPresent(this::retireLater);
    return status(id.name());
  }

  private void revert(AdapterId id) {
    prepared.remove(id);
    Commit last = commits.remove(id.name());
    if (last == null || !last.id().equals(id)) {
      return;
    }
    last.before()
        .map(tiers::publish)
        .orElseGet(() -> tiers.withdraw(id.name()))
        .ifPresent(this::retireLater);
    if (last.pinned()) {
      pinAgain(id.name());
    }
  }

  /** What was replaced may have left meanwhile. */
  private void pinAgain(String name) {
    try {
      tiers.pin(name, true);
    } catch (InfiniLoraException e) {
      log.warn("adapter {} is not pinned any more", name, e);
    }
  }

  private Future<?> withdraw(String name) {
    commits.remove(name);
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
