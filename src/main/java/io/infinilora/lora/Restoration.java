package io.infinilora.lora;

import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.infinilora.core.LoraShard;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import java.time.Duration;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Executor;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Gives shards back what they should have: what others have, when one begins again, and what is
 * saved, when all have. Event loop only.
 */
final class Restoration {
  private static final Logger log = LoggerFactory.getLogger(Restoration.class);

  /** A shard's listing is at hand. */
  private static final Duration LISTING_TIMEOUT = Duration.ofSeconds(5);

  private final ShardCalls shards;
  private final ServedAdapters served;
  private final SavedAdapters saved;
  private final Turns turns;
  private final AdapterChanges changes;
  private final Executor loop;
  private final Supplier<Future<Void>> open;

  /** What the shards that serve had when this coordinator first heard of them. */
  private final Map<LoraShard, Set<AdapterId>> heldAtFirst = new HashMap<>();

  /** What is saved, as far as all shards are there; then others are answered. */
  private Future<Void> restoring = Future.succeededFuture();

  private boolean stopped;

  /**
   * For a coordinator that knows nothing of its shards yet.
   *
   * @param loop runs a task on the event loop, later
   * @param open lets others be answered; is run whenever all that is saved is there
   */
  Restoration(
      ShardCalls shards,
      ServedAdapters served,
      SavedAdapters saved,
      Turns turns,
      AdapterChanges changes,
      Executor loop,
      Supplier<Future<Void>> open) {
    this.shards = shards;
    this.served = served;
    this.saved = saved;
    this.turns = turns;
    this.changes = changes;
    this.loop = loop;
    this.open = open;
  }

  /**
   * Learns what the shards have that are there already.
   *
   * @return completes when they have said so or have failed to; does not fail
   */
  Future<Void> learnHere() {
    Map<LoraShard, Future<AdapterListing>> held = new LinkedHashMap<>();
    for (LoraShard shard : shards.shards()) {
      if (shards.incarnation(shard).isPresent()) {
        held.put(shard, listing(shard));
      }
    }
    return Future.join(List.copyOf(held.values()))
        .transform(
            all -> {
              held.forEach(
                  (shard, part) -> {
                    if (part.succeeded()) {
                      learn(shard, part.result().adapters());
                    }
                  });
              return Future.succeededFuture();
            });
  }

  /** The last attempt to restore what is saved; one that succeeded if there was none. */
  Future<Void> restoring() {
    return restoring;
  }

  /** Leaves what is not restored yet to the next coordinator. */
  void stop() {
    stopped = true;
  }

  /** A shard has ended. */
  void ended(LoraShard shard) {
    heldAtFirst.remove(shard);
  }

  /** A shard has begun; it may be new, or have adapters from the time of another coordinator. */
  void begun(LoraShard shard) {
    heldAtFirst.remove(shard);
    listing(shard)
        .onSuccess(held -> learn(shard, held.adapters()))
        .onFailure(cause -> log.warn("LoRA shard {} does not list its adapters", shard, cause));
  }

  private Future<AdapterListing> listing(LoraShard shard) {
    return shards.ask(shard, new ShardCall.Places(), LISTING_TIMEOUT);
  }

  /** A shard has said what it has; it gets what it lacks, and the others what they lack of that. */
  private void learn(LoraShard shard, List<AdapterStatus> held) {
    heldAtFirst.put(shard, held.stream().map(AdapterStatus::id).collect(Collectors.toSet()));
    for (AdapterStatus adapter : held) {
      Optional<AdapterStatus> before = served.find(adapter.id().name());
      if (before.isEmpty()) {
        save(adapter);
        served.put(adapter);
        heldAtFirst.forEach((other, known) -> restore(other, known, adapter.id()));
      } else if (before.get().id().equals(adapter.id())) {
        served.update(before.get().plus(adapter));
      }
    }
    Set<AdapterId> here = heldAtFirst.get(shard);
    served.list().forEach(adapter -> restore(shard, here, adapter.id()));
    if (heldAtFirst.size() == shards.shards().size()) {
      recallAll();
    }
  }

  /** Keeps what shards have though nobody has kept it. */
  private void save(AdapterStatus held) {
    AdapterId id = held.id();
    if (saved.find(id.name()).filter(s -> s.id().equals(id)).isEmpty()) {
      saved
          .put(saved.registration(id, held.source()), id.digest())
          .compose(v -> saved.pinned(id.name(), held.pinned()));
    }
  }

  /**
   * Registers what no shard has any more, one after the other, in the order of old. Without all
   * shards that must wait until the next one begins.
   */
  private void recallAll() {
    Promise<Void> recalled = Promise.promise();
    recall(saved.list().iterator(), recalled);
    restoring = recalled.future().compose(v -> open.get());
  }

  private void recall(Iterator<SavedAdapters.Saved> left, Promise<Void> all) {
    if (!left.hasNext() || stopped) {
      all.complete();
      return;
    }
    String name = left.next().registration().name();
    turns
        .take(name, () -> recall(name))
        // Not from within the completion: those that need nothing would pile up on the stack.
        .onSuccess(done -> loop.execute(() -> recall(left, all)))
        .onFailure(
            cause -> {
              log.warn("adapters from {} on are not restored yet", name, cause);
              all.fail(cause);
            });
  }

  /** Registered or unloaded meanwhile, there is nothing to do. */
  private Future<?> recall(String name) {
    Optional<SavedAdapters.Saved> found = saved.find(name).filter(s -> !served.contains(name));
    if (found.isEmpty()) {
      return Future.succeededFuture();
    }
    SavedAdapters.Saved adapter = found.get();
    return changes
        .prepare(adapter.registration())
        .compose(
            prepared ->
                prepared.status().id().equals(adapter.id())
                    ? changes.commit(adapter.registration(), prepared)
                    : saved
                        .remove(name)
                        .compose(
                            v ->
                                changes.aborted(
                                    prepared.status().id(),
                                    changed(adapter.id(), prepared.status()))))
        .<Void>compose(
            v -> adapter.pinned() ? changes.pin(name, true).mapEmpty() : Future.succeededFuture())
        .recover(cause -> lost(adapter.id(), cause));
  }

  /** Registers an adapter at a shard that lacks it. */
  private void restore(LoraShard shard, Set<AdapterId> held, AdapterId id) {
    if (!held.contains(id)) {
      turns
          .take(
              id.name(),
              () -> restore(shard, id).<Void>mapEmpty().recover(cause -> lost(id, cause)))
          .onFailure(
              cause -> log.error("LoRA shard {} does not get adapter {} back", shard, id, cause));
    }
  }

  private Future<?> restore(LoraShard shard, AdapterId id) {
    Optional<AdapterStatus> found = served.find(id.name()).filter(a -> a.id().equals(id));
    if (found.isEmpty()) {
      return Future.succeededFuture(); // Unloaded or replaced meanwhile, at all shards.
    }
    AdapterStatus adapter = found.get();
    AdapterRegistration registration = saved.registration(id, adapter.source());
    return shards
        .<LoadedAdapter>ask(shard, new ShardCall.Prepare(registration))
        .compose(
            part -> {
              AdapterId read = part.status().id();
              if (read.equals(id)) {
                return shards.ask(shard, new ShardCall.Commit(id));
              }
              shards.ask(shard, new ShardCall.Abort(read));
              return saved
                  .remove(id.name())
                  .compose(v -> Future.failedFuture(changed(id, part.status())));
            })
        .compose(
            part ->
                adapter.pinned()
                    ? shards.ask(shard, new ShardCall.Pin(id.name(), true))
                    : Future.succeededFuture());
  }

  private static InfiniLoraException changed(AdapterId id, AdapterStatus now) {
    return new InfiniLoraException(
        ErrorCode.BAD_ADAPTER,
        "%s: the content has changed since adapter %s was loaded".formatted(now.source(), id));
  }

  /** If its files are to blame, an adapter is out of service until a shard can read them again. */
  private Future<Void> lost(AdapterId id, Throwable cause) {
    InfiniLoraException known = WireFailures.of(cause);
    if (known.code() != ErrorCode.BAD_ADAPTER && known.code() != ErrorCode.INVALID_REQUEST) {
      return Future.failedFuture(known);
    }
    log.error("adapter {} cannot be restored and is unloaded", id, cause);
    served.remove(id.name());
    shards.askAll(new ShardCall.Withdraw(id.name())); // Some may have it; nobody waits for them.
    return Future.succeededFuture();
  }
}
