package io.infinilora.gateway;

import io.vertx.core.Vertx;
import java.time.Duration;

/**
 * Runs a task again and again on the event loop that made it, and tells when a run is late: the
 * event loop stood still, and whoever seems to have been silent may just not have been heard yet.
 */
final class Clockwork {

  /** What is run. */
  interface Task {
    /**
     * One run.
     *
     * @param now {@link System#nanoTime}
     * @param late whether the last run was so long ago that silence means nothing
     */
    void run(long now, boolean late);
  }

  private final Vertx vertx;
  private final long timer;
  private long last = System.nanoTime();

  /**
   * Starts at once; the first run is a period later.
   *
   * @param silence what the task takes for too long; a run is late half as long after the last one
   */
  Clockwork(Vertx vertx, Duration period, Duration silence, Task task) {
    this.vertx = vertx;
    timer =
        vertx.setPeriodic(
            period.toMillis(),
            t -> {
              long now = System.nanoTime();
              boolean late = now - last > period.toNanos() + silence.toNanos() / 2;
              last = now;
              task.run(now, late);
            });
  }

  /** No run follows. */
  void stop() {
    vertx.cancelTimer(timer);
  }
}
