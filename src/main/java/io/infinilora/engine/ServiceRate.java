package io.infinilora.engine;

import java.time.Duration;

/**
 * How fast requests have been served of late, as requests per busy second: both counts fade
 * exponentially, and time without any request does not count. The caller brings the clock. Event
 * loop only.
 */
final class ServiceRate {
  /** The least that {@link #timeFor} says: 1 s, the resolution of HTTP's Retry-After. */
  static final Duration SHORTEST = Duration.ofSeconds(1);

  /** The most that {@link #timeFor} says: 60 s. Beyond that the recent rate predicts little. */
  static final Duration LONGEST = Duration.ofSeconds(60);

  /** After 30 s an event weighs 1/e of a new one: some dozens of typical answers. */
  private static final double FADE_SECONDS = 30;

  private long last;
  private int present;
  private double served;
  private double busySeconds;

  /** A rate without a past. */
  ServiceRate(long nanos) {
    last = nanos;
  }

  /** A request joined the queue. */
  void joined(long nanos) {
    advance(nanos);
    present++;
  }

  /**
   * A request left.
   *
   * @param admitted whether it made room for another one by that: it was computed, not just queued
   */
  void left(boolean admitted, long nanos) {
    advance(nanos);
    present--;
    if (admitted) {
      served++;
    }
  }

  /**
   * How long serving this many requests is likely to take, between {@link #SHORTEST} and {@link
   * #LONGEST}. As long as nothing was served, the next moment is taken for the first time.
   */
  Duration timeFor(int requests, long nanos) {
    advance(nanos);
    double seconds = Math.ceil(requests * busySeconds / Math.max(1, served));
    return Duration.ofSeconds(
        (long) Math.clamp(seconds, (double) SHORTEST.toSeconds(), (double) LONGEST.toSeconds()));
  }

  private void advance(long nanos) {
    double kept = Math.exp((last - nanos) / 1e9 / FADE_SECONDS);
    last = nanos;
    served *= kept;
    busySeconds *= kept;
    if (present > 0) {
      busySeconds += FADE_SECONDS * (1 - kept);
    }
  }
}
