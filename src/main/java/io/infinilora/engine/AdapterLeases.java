package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.scheduler.AdapterGate;
import io.vertx.core.Future;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.function.Predicate;
import java.util.function.Supplier;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The adapters that the requests of a base model use: one lease per generation, from the first
 * request that uses it until the last has ended. A lease that is revoked is returned when no
 * running request uses it any more; the waiting ones ask for another. One that is lost, or was used
 * by a step that failed on the LoRA side, is replaced, sooner at first and later with every
 * failure. Event loop only.
 */
final class AdapterLeases implements AdapterGate {
  private static final Logger log = LoggerFactory.getLogger(AdapterLeases.class);
  private static final long FIRST_RETRY_MILLIS = 10;
  private static final long LAST_RETRY_MILLIS = 1_000;

  /** Hears of changes that do not come from a call. */
  interface Listener {

    /** Other requests than before can run now. */
    void changed();

    /** Requests with this adapter have to wait: whoever computes it is gone or failed. */
    void troubled(AdapterId adapter, InfiniLoraException cause);

    /** Requests with this adapter cannot be served; they are to be failed and released. */
    void failed(AdapterId adapter, InfiniLoraException cause);
  }

  /** Runs a task on the event loop, later. */
  interface Timer {
    /** Runs a task after some milliseconds, 1 or more. */
    void after(long millis, Runnable task);
  }

  private static final class Hold {
    final long waitNanos;
    LoraRuntime.Lease lease;
    Answer answer;
    State state = State.LOADING;
    int users;
    int failures;

    Hold(long waitNanos) {
      this.waitNanos = waitNanos;
    }

    boolean usable() {
      return state == State.READY || state == State.DRAINING;
    }
  }

  private final LoraRuntime runtime;
  private final Timer timer;
  private final Listener listener;
  private final Map<AdapterId, Hold> holds = new HashMap<>();
  private final Suspects suspects = new Suspects();

  /** Leases that a step in flight may still use. */
  private final List<LoraRuntime.Lease> afterStep = new ArrayList<>();

  private boolean recovering;

  AdapterLeases(LoraRuntime runtime, Timer timer, Listener listener) {
    this.runtime = runtime;
    this.timer = timer;
    this.listener = listener;
  }

  /** Whether requests use this generation now. */
  boolean holds(AdapterId adapter) {
    return holds.containsKey(adapter);
  }

  /**
   * Adds a user of an adapter.
   *
   * @param waitNanos how long to wait for a lease
   * @return whether the adapter can be used at once
   * @throws InfiniLoraException if it cannot be leased at all
   */
  boolean acquire(AdapterId adapter, long waitNanos) {
    Hold hold = holds.get(adapter);
    if (hold == null) {
      hold = new Hold(waitNanos);
      InfiniLoraException refusal = request(adapter, hold);
      if (refusal != null) {
        throw refusal;
      }
      holds.put(adapter, hold);
    }
    hold.users++;
    return hold.state == State.READY;
  }

  /** Asks for a lease; returns why there will be none if that is known at once. */
  private InfiniLoraException request(AdapterId adapter, Hold hold) {
    hold.state = State.LOADING;
    Answer answer = new Answer(adapter, hold);
    hold.answer = answer;
    try {
      hold.lease = runtime.lease(adapter, System.nanoTime() + hold.waitNanos, answer);
    } catch (InfiniLoraException e) {
      answer.failed(e);
    }
    answer.returned = true;
    return answer.refusal;
  }

  /** What the runtime says of one lease, within the call that asks for it or later. */
  private final class Answer implements LoraRuntime.LeaseListener {
    private final AdapterId adapter;
    private final Hold hold;
    private boolean returned;
    private InfiniLoraException refusal;

    Answer(AdapterId adapter, Hold hold) {
      this.adapter = adapter;
      this.hold = hold;
    }

    @Override
    public void granted() {
      if (hold.answer == this) {
        hold.state = State.READY;
        tell(listener::changed);
      }
    }

    @Override
    public void failed(InfiniLoraException cause) {
      if (hold.answer != this) {
        return;
      }
      hold.state = State.UNAVAILABLE;
      refusal = cause;
      if (cause instanceof LoraSideException && returned) {
        tell(
            () -> {
              replace(adapter, hold);
              listener.troubled(adapter, cause);
            });
      } else {
        tell(() -> listener.failed(adapter, cause));
      }
    }

    @Override
    public void revoked() {
      if (hold.answer == this && hold.state == State.READY) {
        hold.state = State.DRAINING;
        tell(listener::changed);
      }
    }

    private void tell(Runnable news) {
      if (returned && holds.get(adapter) == hold) {
        news.run();
      }
    }
  }

  /** Gives a lease up and asks for another after a while. */
  private void replace(AdapterId adapter, Hold hold) {
    hold.state = State.UNAVAILABLE;
    hold.answer = null;
    afterStep.add(hold.lease);
    long delay = Math.min(LAST_RETRY_MILLIS, FIRST_RETRY_MILLIS << Math.min(hold.failures++, 10));
    timer.after(delay, () -> retry(adapter, hold));
  }

  private void retry(AdapterId adapter, Hold hold) {
    if (holds.get(adapter) != hold || hold.answer != null) {
      return;
    }
    InfiniLoraException refusal = request(adapter, hold);
    if (refusal != null) {
      listener.failed(adapter, refusal);
    }
  }

  /**
   * Removes a user.
   *
   * @param stepInFlight whether a step in flight may use the adapter
   */
  void release(AdapterId adapter, boolean stepInFlight) {
    Hold hold = holds.get(adapter);
    if (--hold.users > 0) {
      return;
    }
    holds.remove(adapter);
    if (stepInFlight) {
      afterStep.add(hold.lease);
    } else {
      hold.lease.release();
    }
  }

  /** The step in flight has landed. */
  void landed() {
    afterStep.forEach(LoraRuntime.Lease::release);
    afterStep.clear();
  }

  /** A step with these adapters has been computed. */
  void stepCompleted(Set<AdapterId> adapters) {
    suspects.cleared(adapters);
    adapters.stream().map(holds::get).filter(Objects::nonNull).forEach(h -> h.failures = 0);
  }

  /** A step with these adapters has failed on the LoRA side, and has landed. */
  void stepFailed(Set<AdapterId> adapters) {
    suspects.failed(adapters, System.nanoTime());
    for (AdapterId adapter : adapters) {
      Hold hold = holds.get(adapter);
      if (hold != null && hold.answer != null) {
        replace(adapter, hold);
      }
    }
  }

  /**
   * Chooses which adapters the next step may hold and plans it. No step may be in flight.
   *
   * @param running whether a running request uses an adapter
   * @param next plans a step by this gate, if anybody can go on
   */
  <T> Optional<T> plan(Predicate<AdapterId> running, Supplier<Optional<T>> next) {
    landed();
    recover();
    drain(running);
    boolean probe = suspects.probeNext(this::usable);
    suspects.begin(probe, this::usable);
    Optional<T> plan = next.get();
    return plan.isEmpty() && suspects.begin(!probe, this::usable) ? next.get() : plan;
  }

  private void recover() {
    if (recovering) {
      return;
    }
    Future<Void> recovered = runtime.recover();
    if (recovered.succeeded()) {
      return;
    }
    recovering = true;
    recovered.onComplete(
        v -> {
          recovering = false;
          listener.changed();
        },
        e -> {
          log.error("the exchange with the LoRA server cannot be renewed", e);
          timer.after(
              LAST_RETRY_MILLIS,
              () -> {
                recovering = false;
                listener.changed();
              });
        });
  }

  /** Returns revoked leases that no running request uses and asks for new ones. */
  private void drain(Predicate<AdapterId> running) {
    for (Map.Entry<AdapterId, Hold> entry : List.copyOf(holds.entrySet())) {
      Hold hold = entry.getValue();
      if (hold.state == State.DRAINING && !running.test(entry.getKey())) {
        hold.lease.release();
        InfiniLoraException refusal = request(entry.getKey(), hold);
        if (refusal != null) {
          refusedLater(entry.getKey(), hold, refusal);
        }
      }
    }
  }

  /** Whoever hears of it goes on, and while a step is being planned that is no time for another. */
  private void refusedLater(AdapterId adapter, Hold hold, InfiniLoraException refusal) {
    timer.after(
        1,
        () -> {
          if (holds.get(adapter) == hold) {
            listener.failed(adapter, refusal);
          }
        });
  }

  private boolean usable(AdapterId adapter) {
    Hold hold = holds.get(adapter);
    return hold != null && hold.usable() && !recovering;
  }

  @Override
  public State state(AdapterId adapter) {
    Hold hold = holds.get(adapter);
    if (hold == null) {
      return State.LOADING;
    }
    return hold.usable() && (recovering || !suspects.admits(adapter))
        ? State.UNAVAILABLE
        : hold.state;
  }

  /** Number by which steps refer to a leased adapter that is ready. */
  int slot(AdapterId adapter) {
    return holds.get(adapter).lease.slot();
  }
}
