package io.infinilora.lora;

import io.vertx.core.Vertx;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/**
 * Notices that a driver thread does not come by its safe point any more, so that base models need
 * not wait for a step's deadline to find out. What counts is how often the event loop has come by
 * meanwhile, not the time: whatever stops the whole process does not look like a driver that hangs.
 * Event loop only.
 */
final class DriverWatch {
  private static final long LOOK_MILLIS = 250;

  /** Looks without an answer, at least, before the driver is said to hang: 2 s. */
  static final int LEAST_PATIENCE = 8;

  /** The same as a multiple of the looks that recent answers took. */
  private static final int SLOWER = 4;

  /** Most looks that are learnt from an answer: a driver that hung is not a slow one. */
  private static final int MOST_LEARNT = 2 * LEAST_PATIENCE;

  /** What remains of a slow answer with every quick one. */
  private static final double MEMORY = 0.9;

  private final Consumer<Runnable> safePoint;
  private final Executor loop;
  private final Runnable hangs;
  private boolean asked;
  private int looks;
  private double slowest;

  /**
   * A watch that looks when told to.
   *
   * @param safePoint runs a task on the driver thread, between two operators
   * @param loop the event loop
   * @param hangs is run there once per outage
   */
  DriverWatch(Consumer<Runnable> safePoint, Executor loop, Runnable hangs) {
    this.safePoint = safePoint;
    this.loop = loop;
    this.hangs = hangs;
  }

  /** Looks now and then, as long as the present verticle is deployed. */
  void start(Vertx vertx) {
    // Not periodic: after a pause that would fire once for every time that was missed.
    vertx.setTimer(
        LOOK_MILLIS,
        t -> {
          look();
          start(vertx);
        });
  }

  /** Looks once. */
  void look() {
    if (!asked) {
      asked = true;
      looks = 0;
      safePoint.accept(() -> loop.execute(this::answered));
    } else if (++looks == Math.max(LEAST_PATIENCE, (int) (SLOWER * slowest))) {
      hangs.run();
    }
  }

  private void answered() {
    asked = false;
    slowest = Math.max(Math.min(looks, MOST_LEARNT), MEMORY * slowest);
  }
}
