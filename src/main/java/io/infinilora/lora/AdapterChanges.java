package io.infinilora.lora;

import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.infinilora.core.LoraShard;
import io.infinilora.wire.AdapterCall;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.BiConsumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Changes adapters on all shards or on none, as others ask a coordinator to. Event loop only. */
final class AdapterChanges {
  private static final Logger log = LoggerFactory.getLogger(AdapterChanges.class);

  /** What a shard answers without reading anything is there by then. */
  private static final Duration AT_HAND = Duration.ofSeconds(10);

  /** How often a shard that does not answer is told to take a commit back. */
  private static final int REVERTS = 6;

  private final ShardCalls shards;
  private final ServedAdapters served;
  private final SavedAdapters saved;
  private final Turns turns;
  private final BiConsumer<LoraShard, AdapterId> doubtful;

  /**
   * Changes of what is served.
   *
   * @param doubtful is told of a shard that may still have what all were to take back
   */
  AdapterChanges(
      ShardCalls shards,
      ServedAdapters served,
      SavedAdapters saved,
      Turns turns,
      BiConsumer<LoraShard, AdapterId> doubtful) {
    this.doubtful = doubtful;
    this.shards = shards;
    this.served = served;
    this.saved = saved;
    this.turns = turns;
  }

  /** Does what is asked for; the answer is what the call says. */
  Future<?> answer(AdapterCall call) {
    return switch (call) {
      case AdapterCall.Load load -> turns.take(load.adapter().name(), () -> load(load.adapter()));
      case AdapterCall.Unload unload -> turns.take(unload.name(), () -> unload(unload));
      case AdapterCall.Pin pin -> pin(pin.name(), pin.pinned());
      case AdapterCall.Prefetch prefetch -> shards.merged(new ShardCall.Prefetch(prefetch.name()));
      case AdapterCall.Listing listing -> Future.succeededFuture(served.listing(served.list()));
      case AdapterCall.Places places -> places();
    };
  }

  private Future<LoadedAdapter> load(AdapterRegistration adapter) {
    return prepare(adapter)
        .compose(
            prepared -> {
              try {
                return commit(adapter, prepared.requireEffect(adapter.allowNoEffect()));
              } catch (InfiniLoraException e) {
                return aborted(prepared.status().id(), e);
              }
            });
  }

  /** Has all shards read the same content, or none. */
  Future<LoadedAdapter> prepare(AdapterRegistration adapter) {
    List<Future<LoadedAdapter>> prepared = shards.askAll(new ShardCall.Prepare(adapter));
    return Future.join(prepared)
        .transform(
            all -> {
              List<LoadedAdapter> parts =
                  prepared.stream().filter(Future::succeeded).map(Future::result).toList();
              long contents = parts.stream().map(p -> p.status().id()).distinct().count();
              if (all.succeeded() && contents == 1) {
                return Future.succeededFuture(
                    parts.stream().reduce(LoadedAdapter::plus).orElseThrow());
              }
              parts.forEach(p -> shards.askAll(new ShardCall.Abort(p.status().id())));
              return Future.failedFuture(
                  all.failed()
                      ? all.cause()
                      : new InfiniLoraException(
                          ErrorCode.BAD_ADAPTER,
                          "%s: the shards do not see the same content"
                              .formatted(adapter.source())));
            });
  }

  /** Has all shards forget what they have prepared, and fails. */
  <T> Future<T> aborted(AdapterId id, InfiniLoraException cause) {
    shards.askAll(new ShardCall.Abort(id));
    return Future.failedFuture(cause);
  }

  /** Lets everybody use what all shards have prepared; or nobody, if one of them cannot. */
  Future<LoadedAdapter> commit(AdapterRegistration adapter, LoadedAdapter prepared) {
    AdapterId id = prepared.status().id();
    return shards
        .merged(new ShardCall.Commit(id), AT_HAND)
        .transform(
            (status, failure) -> {
              if (failure != null) {
                return reverted(id, failure);
              }
              served.put(status);
              return saved.put(adapter, id.digest()).map(v -> prepared);
            });
  }

  /** Has all shards go back to what they had, which base models still use; then fails. */
  private <T> Future<T> reverted(AdapterId id, Throwable cause) {
    log.warn("adapter {} is taken back, since a shard could not commit it", id, cause);
    return Future.join(shards.shards().stream().map(s -> revert(s, id, REVERTS)).toList())
        .transform(done -> Future.failedFuture(cause));
  }

  /**
   * Does not fail: a shard that has ended gets what is served when it begins again, and one that
   * only cannot be reached is looked after.
   */
  private Future<Void> revert(LoraShard shard, AdapterId id, int attempts) {
    return shards
        .ask(shard, new ShardCall.Revert(id), AT_HAND)
        .<Void>mapEmpty()
        .recover(
            cause -> {
              boolean late = WireFailures.of(cause).code() == ErrorCode.DEADLINE_EXCEEDED;
              if (late && attempts > 1) {
                return revert(shard, id, attempts - 1);
              }
              log.error("LoRA shard {} does not say that {} is taken back", shard, id, cause);
              doubtful.accept(shard, id);
              return Future.succeededFuture();
            });
  }

  private Future<?> unload(AdapterCall.Unload call) {
    String name = call.name();
    if (!served.contains(name) && saved.find(name).isPresent()) {
      return saved.remove(name); // Its turn to be recalled had not come yet.
    }
    return shards
        .merged(new ShardCall.Status(name))
        .compose(
            status -> {
              if (call.whenInUse() == WhenInUse.REFUSE && status.claims() > 0) {
                return Future.failedFuture(
                    new InfiniLoraException(
                        ErrorCode.CONFLICT,
                        "adapter %s is in use by %d base model(s)"
                            .formatted(name, status.claims())));
              }
              served.remove(name);
              return saved
                  .remove(name)
                  .compose(
                      v -> Future.join(shards.askAll(new ShardCall.Withdraw(name))).mapEmpty());
            });
  }

  /** Keeps an adapter in device memory, or not any more. */
  Future<AdapterStatus> pin(String name, boolean pinned) {
    return shards
        .merged(new ShardCall.Pin(name, pinned))
        .compose(
            status -> {
              served.update(status);
              return saved.pinned(name, pinned).map(v -> status);
            });
  }

  /** The adapters with their places of this moment. */
  private Future<AdapterListing> places() {
    List<Future<AdapterListing>> parts = shards.askAll(new ShardCall.Places());
    return Future.join(parts)
        .map(
            all -> {
              Map<AdapterId, AdapterStatus> merged = new HashMap<>();
              for (Future<AdapterListing> part : parts) {
                part.result().adapters().forEach(a -> merged.merge(a.id(), a, AdapterStatus::plus));
              }
              return served.listing(
                  served.list().stream().map(a -> merged.getOrDefault(a.id(), a)).toList());
            });
  }
}
