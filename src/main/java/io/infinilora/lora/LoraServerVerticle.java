package io.infinilora.lora;

import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraShard;
import io.infinilora.wire.AdapterCall;
import io.infinilora.wire.AdapterChange;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.CoordinatorNotice;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.ShardWatch;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.VerticleBase;
import io.vertx.core.eventbus.DeliveryOptions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The coordinator of a LoRA Server: changes adapters on all shards or on none, and tells base
 * models what they may use. Changes of one name come one after the other. A shard that begins again
 * gets its adapters back from here.
 */
public final class LoraServerVerticle extends VerticleBase {
  private static final Logger log = LoggerFactory.getLogger(LoraServerVerticle.class);

  /** Reading a large adapter takes a while, and unloading waits for running requests. */
  private static final Duration CALL_TIMEOUT = Duration.ofMinutes(10);

  /** A shard's listing is at hand. */
  private static final Duration LISTING_TIMEOUT = Duration.ofSeconds(5);

  /** How often it says that it serves. */
  private static final long NOTICE_MILLIS = 1_000;

  /** Makes room for the changes of a coordinator in its first millisecond. */
  private static final long VERSIONS_PER_MILLI = 1_000;

  private final List<LoraShard> shards;
  private final Map<LoraShard, ShardWatch> watches = new HashMap<>();

  /** What the shards that serve had when this coordinator first heard of them. */
  private final Map<LoraShard, Set<AdapterId>> heldAtFirst = new HashMap<>();

  private final Map<String, AdapterStatus> adapters = new LinkedHashMap<>();
  private final Map<String, Future<?>> lastOfName = new HashMap<>();
  private final Map<LoraShard, Set<Promise<?>>> unanswered = new HashMap<>();
  private SavedAdapters saved;
  private boolean stopped;
  private boolean open;

  /** What is saved, as far as all shards are there; then others are answered. */
  private Future<Void> restoring = Future.succeededFuture();

  /** Begins with the time, so that those of the next coordinator are greater. */
  private long version = System.currentTimeMillis() * VERSIONS_PER_MILLI;

  /** A coordinator of the shards of a grid, wherever they are deployed. */
  public LoraServerVerticle(LoraGrid grid) {
    this.shards = grid.shards();
    shards.forEach(shard -> watches.put(shard, new ShardWatch()));
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
        .onSuccess(left -> saved = left)
        .compose(left -> learnHere())
        .compose(
            v ->
                saved.list().isEmpty()
                    ? open()
                    : restoring.recover(cause -> Future.succeededFuture()));
  }

  /** Leaves what is not restored yet to the next coordinator. */
  @Override
  public Future<?> stop() {
    stopped = true;
    return Future.succeededFuture();
  }

  private Future<?> learnHere() {
    List<ShardNotice> here = ShardNotice.local(vertx);
    here.forEach(notice -> watch(notice).ifPresent(w -> w.heard(notice, System.nanoTime())));
    Map<LoraShard, Future<AdapterListing>> held = new LinkedHashMap<>();
    for (LoraShard shard : shards) {
      if (watches.get(shard).current() != null) {
        held.put(shard, ask(shard, new ShardCall.Places(), LISTING_TIMEOUT));
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
              return vertx
                  .eventBus()
                  .<ShardNotice>consumer(LoraAddresses.SHARDS, m -> noticed(m.body()))
                  .completion();
            });
  }

  private Optional<ShardWatch> watch(ShardNotice notice) {
    return notice.shard() < shards.size()
        ? Optional.of(watches.get(shards.get(notice.shard())))
        : Optional.empty(); // Of another grid.
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
  private void recall(Iterator<SavedAdapters.Saved> left, Promise<Void> all) {
    if (!left.hasNext() || stopped) {
      all.complete();
      return;
    }
    String name = left.next().registration().name();
    inTurn(name, () -> recall(name))
        // Not from within the completion: those that need nothing would pile up on the stack.
        .onSuccess(done -> context.runOnContext(v -> recall(left, all)))
        .onFailure(
            cause -> {
              log.warn("adapters from {} on are not restored yet", name, cause);
              all.fail(cause);
            });
  }

  /** Registered or unloaded meanwhile, there is nothing to do. */
  private Future<?> recall(String name) {
    Optional<SavedAdapters.Saved> found = saved.find(name).filter(s -> !adapters.containsKey(name));
    if (found.isEmpty()) {
      return Future.succeededFuture();
    }
    SavedAdapters.Saved adapter = found.get();
    return prepare(adapter.registration())
        .compose(
            prepared ->
                prepared.status().id().equals(adapter.id())
                    ? commit(adapter.registration(), prepared)
                    : saved
                        .remove(name)
                        .compose(
                            v ->
                                aborted(
                                    prepared.status().id(),
                                    changed(adapter.id(), prepared.status()))))
        .<Void>compose(
            v ->
                adapter.pinned()
                    ? pin(new AdapterCall.Pin(name, true)).mapEmpty()
                    : Future.succeededFuture())
        .recover(cause -> lost(adapter.id(), cause));
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
    adapters.remove(id.name());
    publish(id.name(), null);
    ask(new ShardCall.Withdraw(id.name())); // Some shards may have it; nobody waits for them.
    return Future.succeededFuture();
  }

  /** A shard has said what it has; it gets what it lacks, and the others what they lack of that. */
  private void learn(LoraShard shard, List<AdapterStatus> held) {
    heldAtFirst.put(shard, held.stream().map(AdapterStatus::id).collect(Collectors.toSet()));
    for (AdapterStatus adapter : held) {
      String name = adapter.id().name();
      AdapterStatus before = adapters.get(name);
      if (before == null) {
        adapters.put(name, adapter);
        save(adapter);
        publish(name, adapter);
        heldAtFirst.forEach((other, known) -> restore(other, known, adapter.id()));
      } else if (before.id().equals(adapter.id())) {
        adapters.put(name, before.plus(adapter));
      }
    }
    List<AdapterStatus> all = List.copyOf(adapters.values());
    Set<AdapterId> here = heldAtFirst.get(shard);
    all.forEach(adapter -> restore(shard, here, adapter.id()));
    if (heldAtFirst.size() == shards.size()) {
      Promise<Void> recalled = Promise.promise();
      recall(saved.list().iterator(), recalled);
      restoring = recalled.future().compose(v -> open());
    }
  }

  /** From now on others are answered. */
  private Future<Void> open() {
    if (open || stopped) {
      return Future.succeededFuture();
    }
    open = true;
    vertx.setPeriodic(NOTICE_MILLIS, t -> announce());
    return vertx
        .eventBus()
        .<AdapterCall>consumer(
            LoraAddresses.ADMIN,
            message ->
                answer(message.body())
                    .onSuccess(message::reply)
                    .onFailure(cause -> WireFailures.fail(message, cause)))
        .completion()
        .onSuccess(v -> announce());
  }

  private void announce() {
    vertx.eventBus().publish(LoraAddresses.COORDINATORS, new CoordinatorNotice(version));
  }

  private void noticed(ShardNotice notice) {
    watch(notice)
        .map(w -> w.heard(notice, System.nanoTime()))
        .filter(news -> news != ShardWatch.News.KNOWN)
        .ifPresent(news -> changed(shards.get(notice.shard()), news));
  }

  /** What was asked of an earlier incarnation has no answer any more. */
  private void changed(LoraShard shard, ShardWatch.News news) {
    InfiniLoraException gone =
        new InfiniLoraException(
            ErrorCode.UNAVAILABLE, "LoRA shard %s has ended meanwhile".formatted(shard));
    List.copyOf(unanswered.getOrDefault(shard, Set.of())).forEach(p -> p.tryFail(gone));
    heldAtFirst.remove(shard);
    if (news == ShardWatch.News.BEGUN) {
      // It may be new, or have adapters from the time of another coordinator.
      this.<AdapterListing>ask(shard, new ShardCall.Places(), LISTING_TIMEOUT)
          .onSuccess(held -> learn(shard, held.adapters()))
          .onFailure(cause -> log.warn("LoRA shard {} does not list its adapters", shard, cause));
    }
  }

  /** Registers an adapter at a shard that lacks it. */
  private void restore(LoraShard shard, Set<AdapterId> held, AdapterId id) {
    if (!held.contains(id)) {
      inTurn(id.name(), () -> restore(shard, id).<Void>mapEmpty().recover(cause -> lost(id, cause)))
          .onFailure(
              cause -> log.error("LoRA shard {} does not get adapter {} back", shard, id, cause));
    }
  }

  private Future<?> restore(LoraShard shard, AdapterId id) {
    AdapterStatus adapter = adapters.get(id.name());
    if (adapter == null || !adapter.id().equals(id)) {
      return Future.succeededFuture(); // Unloaded or replaced meanwhile, at all shards.
    }
    AdapterRegistration registration = saved.registration(id, adapter.source());
    return this.<LoadedAdapter>ask(shard, new ShardCall.Prepare(registration), CALL_TIMEOUT)
        .compose(
            part -> {
              AdapterId found = part.status().id();
              if (found.equals(id)) {
                return ask(shard, new ShardCall.Commit(id), CALL_TIMEOUT);
              }
              ask(shard, new ShardCall.Abort(found), CALL_TIMEOUT);
              return saved
                  .remove(id.name())
                  .compose(v -> Future.failedFuture(changed(id, part.status())));
            })
        .compose(
            part ->
                adapter.pinned()
                    ? ask(shard, new ShardCall.Pin(id.name(), true), CALL_TIMEOUT)
                    : Future.succeededFuture())
        .recover(cause -> Future.failedFuture(WireFailures.of(cause)));
  }

  private Future<?> answer(AdapterCall call) {
    return switch (call) {
      case AdapterCall.Load load -> inTurn(load.adapter().name(), () -> load(load.adapter()));
      case AdapterCall.Unload unload -> inTurn(unload.name(), () -> unload(unload));
      case AdapterCall.Pin pin -> pin(pin);
      case AdapterCall.Prefetch prefetch -> merged(new ShardCall.Prefetch(prefetch.name()));
      case AdapterCall.Listing listing ->
          Future.succeededFuture(new AdapterListing(version, new ArrayList<>(adapters.values())));
      case AdapterCall.Places places -> places();
    };
  }

  private Future<?> inTurn(String name, Supplier<Future<?>> change) {
    Future<?> before = lastOfName.getOrDefault(name, Future.succeededFuture());
    Future<?> now = before.transform(done -> change.get());
    lastOfName.put(name, now);
    now.onComplete(done -> lastOfName.remove(name, now));
    return now;
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
  private Future<LoadedAdapter> prepare(AdapterRegistration adapter) {
    List<Future<LoadedAdapter>> prepared = ask(new ShardCall.Prepare(adapter));
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
              parts.forEach(p -> ask(new ShardCall.Abort(p.status().id())));
              return Future.failedFuture(
                  all.failed()
                      ? WireFailures.of(all.cause())
                      : new InfiniLoraException(
                          ErrorCode.BAD_ADAPTER,
                          "%s: the shards do not see the same content"
                              .formatted(adapter.source())));
            });
  }

  private <T> Future<T> aborted(AdapterId id, InfiniLoraException cause) {
    ask(new ShardCall.Abort(id));
    return Future.failedFuture(cause);
  }

  private Future<LoadedAdapter> commit(AdapterRegistration adapter, LoadedAdapter prepared) {
    AdapterId id = prepared.status().id();
    return merged(new ShardCall.Commit(id))
        .compose(
            status -> {
              adapters.put(id.name(), status);
              publish(id.name(), status);
              return saved.put(adapter, id.digest()).map(v -> prepared);
            });
  }

  private Future<?> unload(AdapterCall.Unload call) {
    String name = call.name();
    if (!adapters.containsKey(name) && saved.find(name).isPresent()) {
      return saved.remove(name); // Its turn to be recalled had not come yet.
    }
    return merged(new ShardCall.Status(name))
        .compose(
            status -> {
              if (call.whenInUse() == WhenInUse.REFUSE && status.claims() > 0) {
                return Future.failedFuture(
                    new InfiniLoraException(
                        ErrorCode.CONFLICT,
                        "adapter %s is in use by %d base model(s)"
                            .formatted(name, status.claims())));
              }
              adapters.remove(name);
              publish(name, null);
              return saved
                  .remove(name)
                  .compose(v -> Future.join(ask(new ShardCall.Withdraw(name))).mapEmpty());
            });
  }

  private Future<AdapterStatus> pin(AdapterCall.Pin call) {
    return merged(new ShardCall.Pin(call.name(), call.pinned()))
        .compose(
            status -> {
              adapters.replace(call.name(), status);
              return saved.pinned(call.name(), call.pinned()).map(v -> status);
            });
  }

  /** The adapters with their places of this moment. */
  private Future<AdapterListing> places() {
    List<Future<AdapterListing>> parts = ask(new ShardCall.Places());
    return Future.join(parts)
        .map(
            all -> {
              Map<AdapterId, AdapterStatus> merged = new HashMap<>();
              for (Future<AdapterListing> part : parts) {
                part.result().adapters().forEach(a -> merged.merge(a.id(), a, AdapterStatus::plus));
              }
              return new AdapterListing(
                  version,
                  adapters.values().stream().map(a -> merged.getOrDefault(a.id(), a)).toList());
            })
        .recover(cause -> Future.failedFuture(WireFailures.of(cause)));
  }

  private void publish(String name, AdapterStatus status) {
    vertx.eventBus().publish(LoraAddresses.CHANGES, new AdapterChange(++version, name, status));
  }

  private <T> List<Future<T>> ask(ShardCall call) {
    return ask(call, CALL_TIMEOUT);
  }

  private <T> List<Future<T>> ask(ShardCall call, Duration timeout) {
    List<Future<T>> answers = new ArrayList<>();
    shards.forEach(shard -> answers.add(ask(shard, call, timeout)));
    return answers;
  }

  private <T> Future<T> ask(LoraShard shard, ShardCall call, Duration timeout) {
    ShardNotice current = watches.get(shard).current();
    if (current == null) {
      return Future.failedFuture(
          new InfiniLoraException(
              ErrorCode.UNAVAILABLE, "LoRA shard %s is not there".formatted(shard)));
    }
    Promise<T> answer = Promise.promise();
    Set<Promise<?>> ofShard = unanswered.computeIfAbsent(shard, s -> new HashSet<>());
    ofShard.add(answer);
    vertx
        .eventBus()
        .<T>request(
            LoraAddresses.shardAdmin(current.incarnation()),
            call,
            new DeliveryOptions().setSendTimeout(timeout.toMillis()))
        .onComplete(
            message -> answer.tryComplete(message.body()), failure -> answer.tryFail(failure));
    return answer.future().onComplete(done -> ofShard.remove(answer));
  }

  /** Asks all shards and puts their parts together. */
  private Future<AdapterStatus> merged(ShardCall call) {
    List<Future<AdapterStatus>> parts = ask(call);
    return Future.join(parts)
        .map(all -> parts.stream().map(Future::result).reduce(AdapterStatus::plus).get())
        .recover(cause -> Future.failedFuture(WireFailures.of(cause)));
  }
}
