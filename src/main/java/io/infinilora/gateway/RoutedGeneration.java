package io.infinilora.gateway;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.OverloadedException;
import io.infinilora.core.TokenEvent;
import io.infinilora.wire.BaseCall;
import io.infinilora.wire.StreamEnd;
import io.infinilora.wire.StreamPart;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Queue;
import java.util.UUID;
import java.util.concurrent.Executor;
import java.util.concurrent.Flow;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A request at the gateway, from base to base until it ends: remembers what was emitted, and has
 * the next base go on from there. What the subscriber has not asked for yet is kept here, at most
 * {@link #WINDOW} events. Event loop only, except for the subscription's methods.
 */
final class RoutedGeneration implements Flow.Subscription {
  private static final Logger log = LoggerFactory.getLogger(RoutedGeneration.class);

  /** Events that may be under way or kept here: 64. */
  static final int WINDOW = 64;

  private final GenerateRequest request;
  private final Flow.Subscriber<? super TokenEvent> subscriber;
  private final Router router;
  private final Executor loop;
  private final long arrivedNanos = System.nanoTime();
  private final Queue<TokenEvent> buffer = new ArrayDeque<>();

  private volatile boolean cancelled;
  private long demand;
  private boolean ended;
  private Throwable failure;
  private boolean over;

  // What has come, whichever base it came from.
  private TokenEvent.Started started;
  private boolean prompted;
  private int[] output;
  private int outputLength;
  private int context;

  // The base that computes it now; null if none.
  private Attempt attempt;
  private int attempts;

  // Where it cannot be sent now, and why. Forgotten when there is progress, and after a pause.
  private final Map<UUID, InfiniLoraException> avoided = new HashMap<>();
  private InfiniLoraException trouble;
  private long troubledNanos;
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
    this.started = request.started().orElse(null);
    this.output = request.generated().clone();
    this.outputLength = output.length;
  }

  Optional<String> adapter() {
    return request.adapter();
  }

  /** Whether anything has come, so that another base has to go on from there. */
  boolean begun() {
    return outputLength > 0 || prompted;
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
    if (attempts > 0 && outputLength >= limit()) {
      // Only the end was lost.
      arrived(
          new TokenEvent.Finished(
              FinishReason.LENGTH,
              request.prompt().length,
              started == null ? 0 : started.cachedPromptTokens(),
              outputLength));
      deliver();
      return;
    }
    long left = deadline() - System.nanoTime();
    if (trouble != null && left <= 0) {
      fail(givenUp());
      return;
    }
    if (attempts == 0 || !begun()) {
      context =
          (int)
              Math.min(
                  router.directory().contextLength(),
                  (long) request.prompt().length + request.sampling().maxTokens());
    }
    Optional<KnownBase> base =
        router.directory().choose(context, request.adapter(), avoided.keySet());
    if (base.isPresent()) {
      send(base.get());
      return;
    }
    Optional<InfiniLoraException> refusal = refusedByAll();
    if (refusal.isPresent()) {
      fail(refusal.get());
    } else if (left <= 0) {
      fail(givenUp());
    } else {
      long millis = Math.ceilDiv(left, 1_000_000L);
      timer =
          router.park(
              this,
              avoided.isEmpty() ? millis : Math.min(millis, router.times().pause().toMillis()));
    }
  }

  /** Some time has passed: perhaps a base that refused has changed its mind. */
  void tryAgain() {
    avoided.clear();
    dispatch();
  }

  private void unpark() {
    if (timer >= 0) {
      router.unpark(this, timer);
      timer = -1;
    }
  }

  /** Most output tokens that the first base would have let it have. */
  private int limit() {
    return Math.min(request.sampling().maxTokens(), Math.max(1, context - request.prompt().length));
  }

  private long deadline() {
    return trouble == null
        ? arrivedNanos + router.times().join().toNanos()
        : troubledNanos + router.times().resume().toNanos();
  }

  private InfiniLoraException givenUp() {
    return new InfiniLoraException(
        ErrorCode.UNAVAILABLE,
        trouble == null
            ? "no base model is there; none joined within %d ms"
                .formatted(router.times().join().toMillis())
            : "the generation was interrupted after %d tokens, and no base model took it over within %d ms: %s"
                .formatted(outputLength, router.times().resume().toMillis(), trouble.getMessage()),
        trouble);
  }

  /** What to tell the subscriber if there is no point in trying the same bases again. */
  private Optional<InfiniLoraException> refusedByAll() {
    Collection<InfiniLoraException> causes = avoided.values();
    if (causes.isEmpty()) {
      return Optional.empty();
    }
    if (causes.stream().allMatch(e -> e.code() == ErrorCode.CONFLICT)) {
      return Optional.of(causes.iterator().next());
    }
    if (begun() || !causes.stream().allMatch(e -> e.code() == ErrorCode.OVERLOADED)) {
      return Optional.empty();
    }
    Optional<Duration> soonest =
        causes.stream()
            .filter(OverloadedException.class::isInstance)
            .map(e -> ((OverloadedException) e).retryAfter())
            .min(Duration::compareTo);
    InfiniLoraException any = causes.iterator().next();
    return Optional.of(
        soonest
            .<InfiniLoraException>map(time -> new OverloadedException(any.getMessage(), time))
            .orElse(any));
  }

  private void send(KnownBase base) {
    long credit = WINDOW - buffer.size();
    if (!begun()) {
      started = request.started().orElse(null);
    }
    attempt = new Attempt(base, router.open(base, this), credit);
    GenerateRequest call =
        new GenerateRequest(
            attempts == 0 ? request.id() : request.id() + "~" + attempts,
            request.prompt(),
            request.adapter(),
            request.sampling().limitedTo(limit()),
            request.promptLogprobs() && !prompted,
            true,
            Arrays.copyOf(output, outputLength),
            Optional.ofNullable(started));
    attempts++;
    router.call(base, new BaseCall.Generate(router.gateway(), attempt.stream, credit, call));
  }

  /** Takes what the base has sent. */
  void take(StreamPart part) {
    if (part.sequence() < attempt.parts) {
      return; // It has come before.
    }
    if (part.sequence() > attempt.parts) {
      broken(lost(part.sequence() - attempt.parts));
      return;
    }
    attempt.parts++;
    for (TokenEvent event : Parts.unpack(part)) {
      attempt.received++;
      if (!continues(event)) {
        broken(
            new InfiniLoraException(
                ErrorCode.INTERNAL,
                "base model %s sent %s after %d tokens"
                    .formatted(attempt.base.name(), event, outputLength)));
        return;
      }
      arrived(event);
    }
    if (part.end() != null && part.end().failure() != null) {
      failed(part.end().failure());
    }
    deliver();
  }

  private InfiniLoraException lost(long parts) {
    return new InfiniLoraException(
        ErrorCode.UNAVAILABLE,
        "%d messages of base model %s were lost".formatted(parts, attempt.base.name()));
  }

  /** Whether this is what comes next: nothing else may reach the subscriber. */
  private boolean continues(TokenEvent event) {
    return switch (event) {
      case TokenEvent.Started s -> started == null || started.adapter().equals(s.adapter());
      case TokenEvent.Prompt p -> !prompted && outputLength == 0;
      case TokenEvent.Token token -> token.index() == outputLength;
      case TokenEvent.Finished finished -> finished.outputTokens() == outputLength;
    };
  }

  private void arrived(TokenEvent event) {
    trouble = null;
    avoided.clear();
    switch (event) {
      case TokenEvent.Started s -> {
        if (request.reportStart() && started == null) {
          buffer.add(s);
        }
        started = started == null ? s : started;
        return;
      }
      case TokenEvent.Prompt prompt -> prompted = true;
      case TokenEvent.Token token -> {
        if (outputLength == output.length) {
          output = Arrays.copyOf(output, Math.max(16, 2 * outputLength));
        }
        output[outputLength++] = token.token();
      }
      case TokenEvent.Finished finished -> {
        ended = true;
        close();
      }
    }
    buffer.add(event);
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
        if (begun() && request.adapter().isPresent()) {
          refused(
              new InfiniLoraException(
                  ErrorCode.CONFLICT,
                  "the generation was interrupted after %d tokens and cannot go on: %s"
                      .formatted(outputLength, cause.message()),
                  exception));
        } else {
          fail(exception);
        }
      }
      default -> fail(exception);
    }
  }

  private void refused(InfiniLoraException cause) {
    avoided.put(attempt.base.incarnation(), cause);
    if (begun()) {
      troubled(cause);
    }
    close();
    dispatch();
  }

  /** This stream alone has gone wrong. */
  private void broken(InfiniLoraException cause) {
    log.warn(
        "generation {} is interrupted after {} tokens: {}",
        request.id(),
        outputLength,
        cause.getMessage());
    interrupted(cause);
  }

  /** The base is lost, or cannot be relied on any more: it goes on elsewhere, if it can. */
  void interrupted(InfiniLoraException cause) {
    if (attempt == null) {
      return;
    }
    avoided.put(attempt.base.incarnation(), cause);
    troubled(cause);
    leave();
    dispatch();
  }

  private void troubled(InfiniLoraException cause) {
    if (trouble == null) {
      troubledNanos = System.nanoTime();
    }
    trouble = cause;
  }

  /**
   * Checks whether everything has come that the base has sent.
   *
   * @param sent number of parts, or -1 if the base has no such stream
   */
  void compare(long sent) {
    if (sent < 0) {
      broken(
          new InfiniLoraException(
              ErrorCode.UNAVAILABLE,
              "base model %s does not know the generation any more"
                  .formatted(attempt.base.name())));
    } else if (sent > attempt.parts) {
      broken(lost(sent - attempt.parts));
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
