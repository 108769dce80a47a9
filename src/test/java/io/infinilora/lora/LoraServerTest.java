package io.infinilora.lora;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.AdapterAdmin.WhenInUse;
import io.infinilora.core.AdapterId;
import io.infinilora.core.AdapterRegistration;
import io.infinilora.core.AdapterStatus;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoadedAdapter;
import io.infinilora.core.LoraGrid;
import io.infinilora.core.LoraTarget;
import io.infinilora.loops.EventLoopWatch;
import io.infinilora.wire.AdapterChange;
import io.infinilora.wire.AdapterListing;
import io.infinilora.wire.BusAdapterAdmin;
import io.infinilora.wire.LoraAddresses;
import io.infinilora.wire.ShardCall;
import io.infinilora.wire.ShardNotice;
import io.infinilora.wire.WireCodecs;
import io.infinilora.wire.WireFailures;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import java.time.Duration;
import java.util.List;
import java.util.Set;
import java.util.UUID;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Function;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** A coordinator whose only shard has failures of the test's choice. */
class LoraServerTest {
  private static final AdapterStatus ADAPTER =
      new AdapterStatus(
          new AdapterId("x", "digest"),
          "/adapters/x",
          Set.of(LoraTarget.Q),
          8,
          1,
          1,
          AdapterStatus.Tier.DISK,
          false,
          0);

  private final EventLoopWatch watch = new EventLoopWatch();
  private final Vertx vertx = watch.vertx();
  private final BusAdapterAdmin admin = new BusAdapterAdmin(vertx.eventBus());
  private final AtomicInteger failures = new AtomicInteger();

  @BeforeEach
  void register() {
    WireCodecs.registerAll(vertx.eventBus());
  }

  @AfterEach
  void stop() {
    await(vertx.close());
    watch.assertSilent();
  }

  /** A shard that has the adapter, or prepares and commits it, and fails where it is told to. */
  private ShardNotice shard(List<AdapterStatus> held, Function<ShardCall, ErrorCode> fault) {
    UUID incarnation = UUID.randomUUID();
    await(
        vertx
            .eventBus()
            .<ShardCall>consumer(
                LoraAddresses.shardAdmin(incarnation),
                message -> {
                  ErrorCode code = fault.apply(message.body());
                  if (code != null) {
                    failures.incrementAndGet();
                    WireFailures.fail(message, new InfiniLoraException(code, "a test's fault"));
                    return;
                  }
                  message.reply(
                      switch (message.body()) {
                        case ShardCall.Places places -> new AdapterListing(0, held);
                        case ShardCall.Prepare prepare -> new LoadedAdapter(ADAPTER, List.of());
                        case ShardCall.Abort abort -> null;
                        case ShardCall.Withdraw withdraw -> null;
                        default -> ADAPTER;
                      });
                })
            .completion());
    ShardNotice notice = new ShardNotice(0, incarnation, System.currentTimeMillis(), null, true);
    notice.enter(vertx);
    return notice;
  }

  /** The fault strikes calls of a type, the first time only. */
  private Function<ShardCall, ErrorCode> once(Class<? extends ShardCall> type) {
    return call -> type.isInstance(call) && failures.get() == 0 ? ErrorCode.UNAVAILABLE : null;
  }

  private Future<AdapterChange> firstChange() {
    Promise<AdapterChange> seen = Promise.promise();
    await(
        vertx
            .eventBus()
            .<AdapterChange>consumer(LoraAddresses.CHANGES, m -> seen.tryComplete(m.body()))
            .completion());
    return seen.future();
  }

  /** Whoever waits for this call knows that the shard was asked. */
  private Function<ShardCall, ErrorCode> seen(
      Promise<ShardCall> call,
      Class<? extends ShardCall> type,
      Function<ShardCall, ErrorCode> then) {
    return c -> {
      if (type.isInstance(c)) {
        call.tryComplete(c);
      }
      return then.apply(c);
    };
  }

  private void coordinator() {
    await(vertx.deployVerticle(new LoraServerVerticle(LoraGrid.SINGLE)));
  }

  @Test
  void whatAShardFailsWithIsToldAsItIs() {
    shard(List.of(ADAPTER), call -> call instanceof ShardCall.Withdraw ? ErrorCode.CONFLICT : null);
    coordinator();

    assertThatThrownBy(
            () -> admin.unload("x", WhenInUse.WAIT).await().atMost(Duration.ofMinutes(1)))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.CONFLICT))
        .hasMessage("a test's fault");
  }

  @Test
  void aShardThatDoesNotListItsAdaptersIsAskedAgain() {
    shard(List.of(ADAPTER), once(ShardCall.Places.class));
    Future<AdapterChange> change = firstChange();
    coordinator();

    assertThat(await(change).adapter()).isEqualTo(ADAPTER);
    assertThat(failures).hasValue(1);
  }

  @Test
  void whatCouldNotBeRestoredIsTriedAgain() {
    SavedAdapters saved = await(SavedAdapters.open(vertx));
    await(saved.put(new AdapterRegistration("x", "/adapters/x", true, true), "digest"));
    shard(List.of(), once(ShardCall.Prepare.class));
    Future<AdapterChange> change = firstChange();
    coordinator();

    assertThat(await(change).adapter()).isEqualTo(ADAPTER);
    assertThat(failures).hasValue(1);
  }

  @Test
  void aShardThatCouldNotTakeAnAdapterBackIsAskedAgain() {
    ShardNotice first = shard(List.of(ADAPTER), call -> null);
    coordinator();
    Promise<ShardCall> committed = Promise.promise();

    vertx.eventBus().publish(LoraAddresses.SHARDS, first.ended());
    ShardNotice second =
        shard(List.of(), seen(committed, ShardCall.Commit.class, once(ShardCall.Prepare.class)));
    vertx.eventBus().publish(LoraAddresses.SHARDS, second);

    assertThat(await(committed.future())).isEqualTo(new ShardCall.Commit(ADAPTER.id()));
    assertThat(failures).hasValue(1);
  }

  private static <T> T await(Future<T> future) {
    return future.toCompletionStage().toCompletableFuture().orTimeout(20, TimeUnit.SECONDS).join();
  }
}
