package io.infinilora.weights.hub;

import java.time.Duration;
import java.util.Optional;
import java.util.function.Consumer;

/** How often and after what pause a failed request is tried again. */
final class Backoff {
  private static final int RETRIES = 5;
  private static final Duration FIRST = Duration.ofSeconds(1);

  /** A server that asks for more patience than this is not waited for. */
  static final Duration LONGEST = Duration.ofMinutes(5);

  /** Sleeps, in reality. */
  interface Pause {
    void take(Duration duration) throws InterruptedException;
  }

  private final Pause pause;
  private int failures;

  Backoff(Pause pause) {
    this.pause = pause;
  }

  /** The next failure is the first again, since there was progress. */
  void reset() {
    failures = 0;
  }

  /**
   * Pauses before another try.
   *
   * @param wanted the server's wish, which wins if it is at most {@link #LONGEST}
   * @param announce told of the pause before it is taken
   * @return false, without a pause, if there have been enough tries
   * @throws InterruptedException if the download is cancelled meanwhile
   */
  boolean again(Optional<Duration> wanted, Consumer<Duration> announce)
      throws InterruptedException {
    if (failures == RETRIES || wanted.filter(w -> w.compareTo(LONGEST) > 0).isPresent()) {
      return false;
    }
    Duration wait = wanted.orElse(FIRST.multipliedBy(1L << failures));
    announce.accept(wait);
    failures++;
    pause.take(wait);
    return true;
  }
}
