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
import io.vertx.core.Vertx;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
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

  /** When a shard that did not list its adapters is asked again. */
  private static final long LISTING_RETRY_MILLIS = 1_000;

  /** When what could not be restored is tried again: adapters may have to be downloaded. */
  private static final long RETRY_MILLIS = 3_000;

  /** Failures of one shard that may be over the next time. */
  private static final Set<ErrorCode> PASSING =
      Set.of(ErrorCode.UNAVAILABLE, ErrorCode.DEADLINE_EXCEEDED, ErrorCode.DOWNLOAD_FAILED);

  private final Vertx vertx;
  private final ShardCalls shards;
  private final ServedAdapters served;
  private final SavedAdapters saved;
  private final Turns turns;
  private final AdapterChanges changes;
  private final Supplier<Future<Void>> open;

  /** What the shards that serve had when this coordinator first heard of them. */
  private final Map<LoraShard, Set<AdapterId>> heldAtFirst = new HashMap<>();

  /** What is saved, as far as all shards are there; then others are answered. */
  private Future<Void> restoring = Future.succeededFuture();

  private boolean recallAgain;
  private boolean stopped;

  /**
   * For a coordinator that knows nothing of its shards yet.
   *
   * @param open lets others be answered; is run whenever all that is saved is there
   */
  Restoration(
      Vertx vertx,
      ShardCalls shards,
      ServedAdapters served,
      SavedAdapters saved,
      Turns turns,
      AdapterChanges changes,
      Supplier<Future<Void>> open) {
    this.vertx = vertx;
    this.shards = shards;
    this.served = served;
    this.saved = saved;
    this.turns = turns;
    this.changes = changes;
    this.open = open;
  }

  /**
   * Learns what the shards have that are there already.
   *
   * @return completes when they have said so or have failed to; does not fail
   */
  Future<Void> learnHere() {
    List<Future<AdapterListing>> held = new ArrayList<>();
    List<Runnable> answers = new ArrayList<>();
    for (LoraShard shard : shards.shards()) {
      shards
          .incarnation(shard)
          .ifPresent(
              incarnation -> {
                Future<AdapterListing> listing = listing(shard);
                held.add(listing);
                answers.add(() -> answered(shard, incarnation, listing));
              });
    }
    return Future.join(held)
        .transform(
            all -> {
              answers.forEach(Runnable::run);
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
    shards.incarnation(shard).ifPresent(incarnation -> learn(shard, incarnation));
  }

  private void learn(LoraShard shard, UUID incarnation) {
    Future<AdapterListing> held = listing(shard);
    held.onComplete(done -> answered(shard, incarnation, held));
  }

  private Future<AdapterListing> listing(LoraShard shard) {
    return shards.ask(shard, new ShardCall.Places(), LISTING_TIMEOUT);
  }

  private void answered(LoraShard shard, UUID incarnation, Future<AdapterListing> held) {
    if (held.succeeded()) {
      learn(shard, held.result().adapters());
      return;
    }
    log.warn("LoRA shard {} does not list its adapters", shard, held.cause());
    whileItCounts(shard, incarnation, LISTING_RETRY_MILLIS, () -> learn(shard, incarnation));
  }

  /** Does something after a while if that incarnation of a shard still counts then. */
  private void whileItCounts(LoraShard shard, UUID incarnation, long millis, Runnable task) {
    vertx.setTimer(
        millis,
        t -> {
          if (!stopped && shards.incarnation(shard).equals(Optional.of(incarnation))) {
            task.run();
          }
        });
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
    if (allAreThere()) {
      recallAll();
    }
  }

  private boolean allAreThere() {
    return heldAtFirst.size() == shards.shards().size();
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
   * shards that must wait until the next one begins; with them it is tried until it succeeds.
   */
  private void recallAll() {
    Promise<Void> recalled = Promise.promise();
    recall(saved.list().iterator(), recalled);
    recalled.future().onFailure(cause -> recallLater());
    restoring = recalled.future().compose(v -> open.get());
  }

  private void recallLater() {
    if (recallAgain) {
      return;
    }
    recallAgain = true;
    vertx.setTimer(
        RETRY_MILLIS,
        t -> {
          recallAgain = false;
          if (!stopped && allAreThere()) {
            recallAll();
          }
        });
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
        .onSuccess(done -> vertx.runOnContext(v -> recall(left, all)))
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

  private void restore(LoraShard shard, Set<AdapterId> held, AdapterId id) {
    if (!held.contains(id)) {
      shards.incarnation(shard).ifPresent(incarnation -> restoreInTurn(shard, incarnation, id));
    }
  }

  /** Registers an adapter at a shard that lacks it, again and again if that may help. */
  private void restoreInTurn(LoraShard shard, UUID incarnation, AdapterId id) {
    turns
        .take(
            id.name(), () -> restore(shard, id).<Void>mapEmpty().recover(cause -> lost(id, cause)))
        .onFailure(
            cause -> {
              log.error("LoRA shard {} does not get adapter {} back", shard, id, cause);
              if (PASSING.contains(WireFailures.of(cause).code())) {
                whileItCounts(
                    shard, incarnation, RETRY_MILLIS, () -> restoreInTurn(shard, incarnation, id));
              }
            });
  }

  /**
   * A shard that cannot be reached may still have a generation that was taken back. As soon as it
   * answers, unless it has begun again by then, its name means there what is served.
   */
  void doubtful(LoraShard shard, AdapterId id) {
    shards.incarnation(shard).ifPresent(incarnation -> settleLater(shard, incarnation, id));
  }

  private void settleLater(LoraShard shard, UUID incarnation, AdapterId id) {
    whileItCounts(
        shard,
        incarnation,
        RETRY_MILLIS,
        () ->
            turns
                .take(id.name(), () -> settle(shard, id))
                .onSuccess(
                    v -> log.info("LoRA shard {} has what is served of {}", shard, id.name()))
                .onFailure(cause -> settleLater(shard, incarnation, id)));
  }

  private Future<?> settle(LoraShard shard, AdapterId id) {
    if (served.find(id.name()).filter(a -> a.id().equals(id)).isPresent()) {
      return Future.succeededFuture(); // All shards have it after all.
    }
    // First of all: the generation before may not be what its files hold now.
    return shards
        .ask(shard, new ShardCall.Revert(id), LISTING_TIMEOUT)
        .compose(v -> listing(shard))
        .compose(held -> settle(shard, id.name(), held));
  }

  /** A change that came meanwhile, and failed as well, may have made the revert too late. */
  private Future<?> settle(LoraShard shard, String name, AdapterListing held) {
    Optional<AdapterId> here =
        held.adapters().stream()
            .map(AdapterStatus::id)
            .filter(a -> a.name().equals(name))
            .findAny();
    Optional<AdapterId> should = served.find(name).map(AdapterStatus::id);
    if (here.equals(should)) {
      return Future.succeededFuture();
    }
    return should.isPresent()
        ? restore(shard, should.get()).<Void>mapEmpty().recover(cause -> lost(should.get(), cause))
        : shards.ask(shard, new ShardCall.Withdraw(name));
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
