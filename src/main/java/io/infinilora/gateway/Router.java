package io.infinilora.gateway;

import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.metrics.GatewayMetrics;
import io.infinilora.wire.BaseAddresses;
import io.infinilora.wire.BaseCall;
import io.infinilora.wire.BaseNotice;
import io.infinilora.wire.StreamMessage;
import io.infinilora.wire.StreamPart;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;
import java.util.function.Function;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The gateway's end of the event bus: follows the bases, sends calls, hands what comes back to the
 * generations it belongs to, and tells them when their base is lost. Event loop only.
 */
final class Router {
  private static final Logger log = LoggerFactory.getLogger(Router.class);

  private final UUID gateway = UUID.randomUUID();
  private final Vertx vertx;
  private final BaseDirectory directory;
  private final Function<String, Optional<AdapterId>> find;
  private final GatewayMetrics metrics;
  private final ClusterTimes times;
  private final Set<RoutedGeneration> generations = new LinkedHashSet<>();
  private final Set<RoutedGeneration> parked = new LinkedHashSet<>();
  private Clockwork watch;
  private Clockwork pings;
  private long nextStream;
  private Runnable idle = () -> {};

  Router(
      Vertx vertx,
      BaseDirectory directory,
      Function<String, Optional<AdapterId>> find,
      GatewayMetrics metrics,
      ClusterTimes times) {
    this.vertx = vertx;
    this.directory = directory;
    this.find = find;
    this.metrics = metrics;
    this.times = times;
  }

  /** Begins to listen. */
  Future<?> start() {
    watch = new Clockwork(vertx, times.notice(), times.baseSilence(), this::watch);
    pings = new Clockwork(vertx, times.ping(), times.baseSilence(), (now, late) -> ping(now));
    return Future.all(
        vertx
            .eventBus()
            .<BaseNotice>consumer(BaseAddresses.NOTICES, m -> noticed(m.body()))
            .completion(),
        vertx
            .eventBus()
            .<StreamMessage>consumer(BaseAddresses.streams(gateway), m -> take(m.body()))
            .completion());
  }

  void stop() {
    watch.stop();
    pings.stop();
  }

  private void noticed(BaseNotice notice) {
    if (notice.state() == BaseNotice.State.GONE) {
      KnownBase base = directory.find(notice.incarnation());
      if (base != null) {
        lose(base, "has ended");
      }
    } else if (directory.heard(notice, System.nanoTime())) {
      List.copyOf(parked).forEach(RoutedGeneration::dispatch);
    }
  }

  private void watch(long now, boolean late) {
    if (late) {
      return; // Notices that came meanwhile have not been looked at.
    }
    long silence = times.baseSilence().toNanos();
    for (KnownBase base : directory.all()) {
      if (now - base.heardNanos() > silence) {
        lose(base, "has been silent for %d ms".formatted(times.baseSilence().toMillis()));
      } else if (base.owesAnswer(now, silence)) {
        base.answered();
        interrupt(base, "does not answer");
      }
    }
  }

  private void lose(KnownBase base, String reason) {
    directory.forget(base.incarnation());
    interrupt(base, reason);
  }

  private static void interrupt(KnownBase base, String reason) {
    log.warn(
        "base model {} {}; {} generations are interrupted",
        base.name(),
        reason,
        base.streams().size());
    InfiniLoraException cause =
        new InfiniLoraException(
            ErrorCode.UNAVAILABLE, "base model %s %s".formatted(base.name(), reason));
    base.generations().forEach(generation -> generation.interrupted(cause));
  }

  private void ping(long now) {
    for (KnownBase base : directory.all()) {
      Map<Long, RoutedGeneration> open = base.streams();
      if (!open.isEmpty()) {
        long[] streams = open.keySet().stream().mapToLong(id -> id).toArray();
        long[] credits = new long[streams.length];
        for (int i = 0; i < streams.length; i++) {
          credits[i] = open.get(streams[i]).credit();
        }
        base.asked(now);
        send(base, new BaseCall.Ping(gateway, streams, credits));
      }
    }
  }

  private void take(StreamMessage message) {
    switch (message) {
      case StreamMessage.Parts parts -> {
        KnownBase base = directory.find(parts.base());
        for (StreamPart part : base == null ? List.<StreamPart>of() : parts.parts()) {
          RoutedGeneration generation = base.stream(part.stream());
          if (generation != null) {
            generation.take(part);
          }
        }
      }
      case StreamMessage.Pong pong -> {
        KnownBase base = directory.find(pong.base());
        if (base != null) {
          base.answered();
          answered(base, pong);
        }
      }
    }
  }

  private static void answered(KnownBase base, StreamMessage.Pong pong) {
    for (int i = 0; i < pong.streams().length; i++) {
      RoutedGeneration generation = base.stream(pong.streams()[i]);
      if (generation != null) {
        generation.compare(pong.sent()[i]);
      }
    }
  }

  private void send(KnownBase base, BaseCall call) {
    vertx.eventBus().send(base.address(), call);
  }

  /** Who sends. */
  UUID gateway() {
    return gateway;
  }

  BaseDirectory directory() {
    return directory;
  }

  /** The generation of an adapter that the LoRA side has now. */
  Optional<AdapterId> find(String adapter) {
    return find.apply(adapter);
  }

  ClusterTimes times() {
    return times;
  }

  /** Number of a stream that is opened at a base. */
  long open(KnownBase base, RoutedGeneration generation) {
    long stream = nextStream++;
    base.open(stream, generation);
    metrics.routed(base.name());
    if (generation.begun()) {
      metrics.resumed(base.name());
    }
    return stream;
  }

  void call(KnownBase base, BaseCall call) {
    send(base, call);
  }

  /**
   * Lets a generation {@linkplain RoutedGeneration#dispatch look for a base} when one joins.
   *
   * @param millis time after which {@link RoutedGeneration#tryAgain} is called in any case
   * @return the timer
   */
  long park(RoutedGeneration generation, long millis) {
    parked.add(generation);
    return vertx.setTimer(Math.max(1, millis), t -> generation.tryAgain());
  }

  void unpark(RoutedGeneration generation, long timer) {
    parked.remove(generation);
    vertx.cancelTimer(timer);
  }

  /** A generation begins. */
  void add(RoutedGeneration generation) {
    generations.add(generation);
  }

  /** A generation is over. */
  void remove(RoutedGeneration generation) {
    generations.remove(generation);
    if (generations.isEmpty()) {
      idle.run();
    }
  }

  /** Runs a task when no generation is left, which may be now, and then whenever that is so. */
  void whenIdle(Runnable task) {
    idle = task;
    if (generations.isEmpty()) {
      task.run();
    }
  }

  /** Ends all generations. */
  void failAll(InfiniLoraException cause) {
    List.copyOf(generations).forEach(generation -> generation.fail(cause));
  }
}
