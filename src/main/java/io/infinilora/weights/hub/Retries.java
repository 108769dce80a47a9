package io.infinilora.weights.hub;

import io.infinilora.core.HubReference;
import java.io.IOException;
import java.time.Duration;
import java.util.Optional;

/** Runs a request until it succeeds, fails for good, or has failed often enough. */
final class Retries {
  private final Backoff.Pause pause;
  private final HubListener listener;

  /** One try. */
  interface Attempt<T> {
    /**
     * Tries.
     *
     * @param backoff to be reset if there was progress
     * @throws IOException if another try may help
     */
    T run(Backoff backoff) throws IOException, InterruptedException;
  }

  Retries(Backoff.Pause pause, HubListener listener) {
    this.pause = pause;
    this.listener = listener;
  }

  /**
   * Runs until success.
   *
   * @param what subject of messages
   * @param hint what to do instead, ends the last message
   * @throws io.infinilora.core.InfiniLoraException DOWNLOAD_FAILED with the last failure
   */
  <T> T run(HubReference reference, String what, String hint, Attempt<T> attempt)
      throws InterruptedException {
    Backoff backoff = new Backoff(pause);
    while (true) {
      try {
        return attempt.run(backoff);
      } catch (IOException e) {
        Optional<Duration> wanted =
            e instanceof TransientFailure failure ? failure.retryAfter() : Optional.empty();
        String cause = what + ": " + reason(e);
        if (!backoff.again(wanted, wait -> listener.note(note(reference, cause, wait)))) {
          throw HubErrors.of(reference, cause + finality(wanted) + hint, e);
        }
      }
    }
  }

  private static String note(HubReference reference, String cause, Duration wait) {
    return "%s: %s; trying again in %d s".formatted(reference, cause, wait.toSeconds());
  }

  private static String finality(Optional<Duration> wanted) {
    return wanted
        .filter(wait -> wait.compareTo(Backoff.LONGEST) > 0)
        .map(wait -> "; the server wants to be left alone for %d s".formatted(wait.toSeconds()))
        .orElse("; gave up after several tries");
  }

  private static String reason(IOException e) {
    return e.getMessage() == null ? e.getClass().getSimpleName() : e.getMessage();
  }
}
