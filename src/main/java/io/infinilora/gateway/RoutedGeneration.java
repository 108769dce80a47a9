package io.infinilora.gateway;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TokenEvent;
import io.infinilora.wire.BaseCall;
import io.infinilora.wire.StreamEnd;
import io.infinilora.wire.StreamPart;
import java.util.ArrayDeque;
import java.util.Optional;
import java.util.Queue;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A request at the gateway, from base to base until it ends: each goes on from where the last one
 * left off. What the subscriber has not asked for yet is kept here, at most {@link #WINDOW} events.
 * Event loop only, except for the subscription's methods.
 */
final class RoutedGeneration implements Flow.Subscription {
  private static final Logger log = LoggerFactory.getLogger(RoutedGeneration.class);

  /** Events that may be under way or kept here: 64. */
  static final int WINDOW = 64;

  private final GenerateRequest request;
  private final Flow.Subscriber<? super TokenEvent> subscriber;
  private final Router router;
  private final Executor loop;
  private final Progress progress;
  private final Obstacles obstacles;
  private final Queue<TokenEvent> buffer = new ArrayDeque<>();

  private volatile boolean cancelled;
  private long demand;
  private boolean ended;
  private Throwable failure;
  private boolean over;

  /** The stream at the base that computes it now; null if none does. */
  private Attempt attempt;

  private long timer = -1;

  private static final class Attempt {
    final KnownBase base;
    final long stream;
    long credit;
    long received;
    long parts;

    Attempt(KnownBase base, long stream, long credit) {
      this.base = base;
      this.stream = stream;
      this.credit = credit;
    }
  }

  /**
   * A request that was not sent yet.
   *
   * @param loop runs tasks on the event loop of the router
   */
  RoutedGeneration(
      GenerateRequest request,
      Flow.Subscriber<? super TokenEvent> subscriber,
      Router router,
      Executor loop) {
    this.request = request;
    this.subscriber = subscriber;
    this.router = router;
    this.loop = loop;
    this.progress = new Progress(request);
    this.obstacles = new Obstacles(router.times(), System.nanoTime());
  }

  Optional<String> adapter() {
    return request.adapter();
  }

  /** Whether anything has come, so that another base has to go on from there. */
  boolean begun() {
    return progress.begun();
  }

  /** Events that the base may have sent in all. */
  long credit() {
    return attempt.credit;
  }

  @Override
  public void request(long n) {
    loop.execute(
        () -> {
          if (n <= 0) {
            fail(new IllegalArgumentException("a subscriber has to request 1 or more, not " + n));
            return;
          }
          demand = demand + n < 0 ? Long.MAX_VALUE : demand + n;
          deliver();
        });
  }

  @Override
  public void cancel() {
    cancelled = true;
    loop.execute(
        () -> {
          leave();
          buffer.clear();
          end();
        });
  }

  /** Sends it to a base, if there is one for it, or sees to it that this is tried again. */
  void dispatch() {
    if (ended || over || attempt != null) {
      return;
    }
    unpark();
    Optional<TokenEvent.Finished> missing = progress.missingEnd();
    if (missing.isPresent()) {
      arrived(missing.get());
      deliver();
      return;
    }
    long now = System.nanoTime();
    if (obstacles.exhausted(now)) {
      fail(obstacles.givenUp(progress.outputLength()));
      return;
    }
    BaseDirectory directory = router.directory();
    int context = progress.context(directory.contextLength());
    Optional<KnownBase> base = directory.choose(context, request.adapter(), obstacles.avoided());
    Optional<InfiniLoraException> verdict = obstacles.verdict(begun());
    if (base.isPresent()) {
      send(base.get());
    } else if (verdict.isPresent()) {
      fail(verdict.get());
    } else if (obstacles.nanosLeft(now) <= 0) {
      fail(obstacles.givenUp(progress.outputLength()));
    } else {
      timer = router.park(this, obstacles.millisToWait(now));
    }
  }

  /** Some time has passed without a base. */
  void tryAgain() {
    obstacles.tryAgain();
    dispatch();
  }

  private void unpark() {
    if (timer >= 0) {
      router.unpark(this, timer);
      timer = -1;
    }
  }

  private void send(KnownBase base) {
    long credit = WINDOW - buffer.size();
    attempt = new Attempt(base, router.open(base, this), credit);
    router.call(
        base, new BaseCall.Generate(router.gateway(), attempt.stream, credit, progress.next()));
  }

  /** Takes what the base has sent. */
  void take(StreamPart part) {
    if (part.sequence() < attempt.parts) {
      return; // It has come before.
    }
    if (part.sequence() > attempt.parts) {
      broken(ErrorCode.UNAVAILABLE, "has sent messages that were lost");
      return;
    }
    attempt.parts++;
    for (TokenEvent event : Parts.unpack(part)) {
      if (!progress.continues(event)) {
        broken(ErrorCode.INTERNAL, "has sent what does not come next: " + event);
        return;
      }
      attempt.received++;
      arrived(event);
    }
    if (part.end() != null && part.end().failure() != null) {
      failed(part.end().failure());
    }
    deliver();
  }

  private void arrived(TokenEvent event) {
    if (!(event instanceof TokenEvent.Started)) {
      obstacles.progress();
    }
    if (progress.add(event)) {
      buffer.add(event);
    }
    if (event instanceof TokenEvent.Finished) {
      ended = true;
      close();
    }
  }

  /** Passes on what the subscriber has asked for, and lets the base send as much again. */
  private void deliver() {
    while (demand > 0 && !buffer.isEmpty() && !cancelled) {
      demand--;
      subscriber.onNext(buffer.remove());
    }
    if (over || cancelled) {
      return;
    }
    if (ended && buffer.isEmpty()) {
      end();
      if (failure == null) {
        subscriber.onComplete();
      } else {
        subscriber.onError(failure);
      }
      return;
    }
    if (attempt != null) {
      long room = WINDOW - buffer.size() - (attempt.credit - attempt.received);
      if (room >= WINDOW / 2) {
        attempt.credit += room;
        router.call(
            attempt.base, new BaseCall.Credit(router.gateway(), attempt.stream, attempt.credit));
      }
    }
  }

  /** The base has ended it without finishing. */
  private void failed(StreamEnd.Failure cause) {
    InfiniLoraException exception = cause.exception();
    switch (cause.code()) {
      case UNAVAILABLE -> interrupted(exception);
      case OVERLOADED -> refused(exception);
      case CONFLICT, MODEL_NOT_FOUND -> {
        if (request.adapter().isEmpty()) {
          fail(exception);
        } else if (router.find(request.adapter().get()).filter(progress::canGoOnWith).isPresent()) {
          // The base has not heard of it yet; that is not what a stream that has begun ends with.
          refused(
              begun()
                  ? new InfiniLoraException(ErrorCode.UNAVAILABLE, cause.message(), exception)
                  : exception);
        } else if (begun()) {
          refused(
              new InfiniLoraException(
                  ErrorCode.CONFLICT,
                  "the generation was interrupted after %d tokens and cannot go on: %s"
                      .formatted(progress.outputLength(), cause.message()),
                  exception));
        } else {
          fail(exception);
        }
      }
      default -> fail(exception);
    }
  }

  private void refused(InfiniLoraException cause) {
    obstacles.refused(attempt.base.incarnation(), cause);
    close();
    dispatch();
  }

  /** This stream alone has gone wrong. */
  private void broken(ErrorCode code, String what) {
    InfiniLoraException cause =
        new InfiniLoraException(code, "base model %s %s".formatted(attempt.base.name(), what));
    log.warn(
        "generation {} is interrupted after {} tokens: {}",
        request.id(),
        progress.outputLength(),
        cause.getMessage());
    interrupted(cause);
    deliver();
  }

  /** The base is lost, or cannot be relied on any more: it goes on elsewhere, if it can. */
  void interrupted(InfiniLoraException cause) {
    obstacles.interrupted(attempt.base.incarnation(), cause, System.nanoTime());
    leave();
    dispatch();
  }

  /**
   * Checks whether everything has come that the base has sent.
   *
   * @param sent number of parts, or -1 if the base has no such stream
   */
  void compare(long sent) {
    if (sent < 0) {
      broken(ErrorCode.UNAVAILABLE, "does not know the generation any more");
    } else if (sent > attempt.parts) {
      broken(ErrorCode.UNAVAILABLE, "has sent messages that were lost");
    }
  }

  /** Fails it, behind what the subscriber is still to get. */
  void fail(Throwable cause) {
    if (!ended && !over) {
      leave();
      ended = true;
      failure = cause;
      deliver();
    }
  }

  /** Tells the base to stop, if there is one. */
  private void leave() {
    if (attempt != null) {
      router.call(attempt.base, new BaseCall.Cancel(router.gateway(), attempt.stream));
      close();
    }
  }

  private void close() {
    if (attempt != null) {
      attempt.base.close(attempt.stream);
      attempt = null;
    }
  }

  private void end() {
    if (!over) {
      over = true;
      unpark();
      router.remove(this);
    }
  }
}
