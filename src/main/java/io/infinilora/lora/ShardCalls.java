package io.infinilora.lora;

import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraShard;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.ShardWatch;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import io.vertx.core.eventbus.DeliveryOptions;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;

/**
 * A coordinator's calls to its shards: to the incarnation of each that counts, as its notices say.
 * What was asked of one that has ended fails at once. All failures are {@link
 * InfiniLoraException}s. Event loop only.
 */
final class ShardCalls {
  /** Reading a large adapter takes a while, and unloading waits for running requests. */
  private static final Duration TIMEOUT = Duration.ofMinutes(10);

  private final Vertx vertx;
  private final List<LoraShard> shards;
  private final Map<LoraShard, ShardWatch> watches = new HashMap<>();
  private final Map<LoraShard, Set<Promise<?>>> unanswered = new HashMap<>();

  /** Calls to the shards of a grid, none of which has been heard of. */
  ShardCalls(Vertx vertx, LoraGrid grid) {
    this.vertx = vertx;
    this.shards = grid.shards();
    shards.forEach(shard -> watches.put(shard, new ShardWatch()));
  }

  /** The shards of the grid, there or not. */
  List<LoraShard> shards() {
    return shards;
  }

  /** The shard that a notice is about; empty if it belongs to another grid. */
  Optional<LoraShard> shard(ShardNotice notice) {
    return notice.shard() < shards.size()
        ? Optional.of(shards.get(notice.shard()))
        : Optional.empty();
  }

  /** The incarnation of a shard that counts; empty if it is not there. */
  Optional<UUID> incarnation(LoraShard shard) {
    return Optional.ofNullable(watches.get(shard).current()).map(ShardNotice::incarnation);
  }

  /**
   * Takes a notice of a shard in. What was asked of an earlier incarnation has no answer any more.
   */
  ShardWatch.News heard(LoraShard shard, ShardNotice notice) {
    ShardWatch.News news = watches.get(shard).heard(notice, System.nanoTime());
    if (news != ShardWatch.News.KNOWN) {
      InfiniLoraException gone =
          new InfiniLoraException(
              ErrorCode.UNAVAILABLE, "LoRA shard %s has ended meanwhile".formatted(shard));
      List.copyOf(unanswered.getOrDefault(shard, Set.of())).forEach(p -> p.tryFail(gone));
    }
    return news;
  }

  /** Asks one shard. */
  <T> Future<T> ask(LoraShard shard, ShardCall call) {
    return ask(shard, call, TIMEOUT);
  }

  /** Asks one shard, which is to answer in time. */
  <T> Future<T> ask(LoraShard shard, ShardCall call, Duration timeout) {
    Optional<UUID> incarnation = incarnation(shard);
    if (incarnation.isEmpty()) {
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
            LoraAddresses.shardAdmin(incarnation.get()),
            call,
            new DeliveryOptions().setSendTimeout(timeout.toMillis()))
        .onComplete(
            message -> answer.tryComplete(message.body()),
            failure -> answer.tryFail(WireFailures.of(failure)));
    return answer.future().onComplete(done -> ofShard.remove(answer));
  }

  /** Asks every shard; answers in the order of the grid. */
  <T> List<Future<T>> askAll(ShardCall call) {
    return askAll(call, TIMEOUT);
  }

  private <T> List<Future<T>> askAll(ShardCall call, Duration timeout) {
    List<Future<T>> answers = new ArrayList<>();
    shards.forEach(shard -> answers.add(ask(shard, call, timeout)));
    return answers;
  }

  /** Asks every shard for its part of an adapter's status and puts the parts together. */
  Future<AdapterStatus> merged(ShardCall call) {
    return merged(call, TIMEOUT);
  }

  /** The same of shards that are to answer in time. */
  Future<AdapterStatus> merged(ShardCall call, Duration timeout) {
    List<Future<AdapterStatus>> parts = askAll(call, timeout);
    return Future.join(parts)
        .map(all -> parts.stream().map(Future::result).reduce(AdapterStatus::plus).orElseThrow());
  }
}
