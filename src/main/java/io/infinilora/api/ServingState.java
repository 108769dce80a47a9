package io.infinilora.api;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.vertx.core.Future;
import io.vertx.core.Promise;
import io.vertx.core.Vertx;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.function.Supplier;

/**
 * Whether requests can be served: not yet, yes, or no more. Shared by all instances of {@link
 * HttpVerticle}; safe for any thread.
 */
public final class ServingState {
  private final Object lock = new Object();
  private ServedModel model;
  private Supplier<Optional<InfiniLoraException>> fault = Optional::empty;
  private boolean draining;
  private int active;
  private final List<Promise<Boolean>> drained = new ArrayList<>();

  /** From now on requests are served by this model. */
  public void open(ServedModel served) {
    open(served, Optional::empty);
  }

  /**
   * From now on requests are served by this model, as long as it can.
   *
   * @param fault why it cannot any more, which requests are refused with; quick, any thread
   */
  public void open(ServedModel served, Supplier<Optional<InfiniLoraException>> fault) {
    synchronized (lock) {
      model = served;
      this.fault = fault;
    }
  }

  /** Whether requests are served now. */
  public boolean ready() {
    synchronized (lock) {
      return model != null && !draining && fault.get().isEmpty();
    }
  }

  /**
   * Refuses new requests from now on and waits for those that run.
   *
   * @return completes with true once none is left, with false when the time is over before that
   */
  public Future<Boolean> drain(Vertx vertx, Duration timeout) {
    Promise<Boolean> done = Promise.promise();
    synchronized (lock) {
      draining = true;
      if (active == 0) {
        return Future.succeededFuture(true);
      }
      drained.add(done);
    }
    long timer =
        vertx.setTimer(Math.max(1, timeout.toMillis()), ignored -> done.tryComplete(false));
    return done.future().onComplete(ignored -> vertx.cancelTimer(timer));
  }

  /**
   * A request begins. Every call that returns is followed by one of {@link #leave}.
   *
   * @throws InfiniLoraException {@code UNAVAILABLE} before {@link #open} and while draining; the
   *     model's fault if it has one
   */
  ServedModel enter() {
    synchronized (lock) {
      ServedModel served = current();
      if (draining) {
        throw new InfiniLoraException(
            ErrorCode.UNAVAILABLE, "The server is shutting down and takes no new requests");
      }
      Optional<InfiniLoraException> obstacle = fault.get();
      if (obstacle.isPresent()) {
        throw new InfiniLoraException(
            obstacle.get().code(), obstacle.get().getMessage(), obstacle.get());
      }
      active++;
      return served;
    }
  }

  /** A request is over. */
  void leave() {
    List<Promise<Boolean>> waiting = List.of();
    synchronized (lock) {
      active--;
      if (active == 0) {
        waiting = List.copyOf(drained);
        drained.clear();
      }
    }
    waiting.forEach(p -> p.tryComplete(true));
  }

  /** Requests being served. */
  public int active() {
    synchronized (lock) {
      return active;
    }
  }

  /**
   * The model, also while draining.
   *
   * @throws InfiniLoraException {@code UNAVAILABLE} before {@link #open}
   */
  ServedModel current() {
    synchronized (lock) {
      if (model == null) {
        throw new InfiniLoraException(
            ErrorCode.UNAVAILABLE, "The model is still loading; see /ready");
      }
      return model;
    }
  }
}
