package io.infinilora.gateway;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.OverloadedException;
import java.time.Duration;
import java.util.Collection;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.UUID;

/**
 * What keeps a generation from being computed: where it cannot be sent now and why, since when it
 * has made no progress, and when that has gone on for too long. Event loop only.
 */
final class Obstacles {
  private final ClusterTimes times;
  private final long arrivedNanos;

  /** By incarnation. Forgotten when there is progress, and after a pause. */
  private final Map<UUID, InfiniLoraException> avoided = new HashMap<>();

  private InfiniLoraException trouble;
  private long troubledNanos;

  /** None yet. */
  Obstacles(ClusterTimes times, long now) {
    this.times = times;
    this.arrivedNanos = now;
  }

  /** Bases that are out of the question for now. */
  Set<UUID> avoided() {
    return avoided.keySet();
  }

  /** A base has refused it. */
  void refused(UUID base, InfiniLoraException cause) {
    avoided.put(base, cause);
  }

  /** A base has not gone on with it. */
  void interrupted(UUID base, InfiniLoraException cause, long now) {
    avoided.put(base, cause);
    if (trouble == null) {
      troubledNanos = now;
    }
    trouble = cause;
  }

  /** Something has come. */
  void progress() {
    trouble = null;
    avoided.clear();
  }

  /** Perhaps a base that refused has changed its mind. */
  void tryAgain() {
    avoided.clear();
  }

  /** How long it may go on without progress; 0 or less if not at all. */
  long nanosLeft(long now) {
    return trouble == null
        ? arrivedNanos + times.join().toNanos() - now
        : troubledNanos + times.resume().toNanos() - now;
  }

  /** Whether it is over although there may be a base. */
  boolean exhausted(long now) {
    return trouble != null && nanosLeft(now) <= 0;
  }

  /** How long to wait for another base, or before the same are tried again; at least 1. */
  long millisToWait(long now) {
    long left = Math.max(1, Math.ceilDiv(nanosLeft(now), 1_000_000L));
    return avoided.isEmpty() ? left : Math.min(left, times.pause().toMillis());
  }

  /**
   * What to tell the subscriber if there is no point in trying the same bases again.
   *
   * @param begun whether something has reached the subscriber, who then cannot try again instead
   */
  Optional<InfiniLoraException> verdict(boolean begun) {
    Collection<InfiniLoraException> causes = avoided.values();
    if (causes.isEmpty()) {
      return Optional.empty();
    }
    InfiniLoraException any = causes.iterator().next();
    if (all(causes, ErrorCode.CONFLICT)) {
      return Optional.of(any);
    }
    if (begun || !all(causes, ErrorCode.OVERLOADED)) {
      return Optional.empty();
    }
    Optional<Duration> soonest =
        causes.stream()
            .filter(OverloadedException.class::isInstance)
            .map(e -> ((OverloadedException) e).retryAfter())
            .min(Duration::compareTo);
    return Optional.of(
        soonest
            .<InfiniLoraException>map(time -> new OverloadedException(any.getMessage(), time))
            .orElse(any));
  }

  private static boolean all(Collection<InfiniLoraException> causes, ErrorCode code) {
    return causes.stream().allMatch(cause -> cause.code() == code);
  }

  /**
   * What to tell the subscriber when no time is left.
   *
   * @param tokens how many have come
   */
  InfiniLoraException givenUp(int tokens) {
    if (trouble == null && !avoided.isEmpty()) {
      return avoided.values().iterator().next();
    }
    return new InfiniLoraException(
        ErrorCode.UNAVAILABLE,
        trouble == null
            ? "no base model is there; none joined within %d ms".formatted(times.join().toMillis())
            : "the generation was interrupted after %d tokens, and no base model took it over within %d ms: %s"
                .formatted(tokens, times.resume().toMillis(), trouble.getMessage()),
        trouble);
  }
}
