package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.scheduler.Sequence;
import io.smallrye.mutiny.subscription.MultiEmitter;
import java.time.Duration;
import java.util.Optional;

/** A request in flight: its sequence in the scheduler and its subscriber. Event loop only. */
final class Generation {
  private final GenerateRequest request;
  private final MultiEmitter<? super TokenEvent> emitter;
  private final PromptObserver observer;
  private Sequence sequence;
  private boolean resident;
  private boolean startReported;
  private boolean ended;
  private long queuedAt;
  private boolean running;
  private InfiniLoraException trouble;
  private long troubledAt;

  /**
   * A request that was not admitted yet.
   *
   * @param observer sees the prompt's logits; null for nobody
   */
  Generation(
      GenerateRequest request, MultiEmitter<? super TokenEvent> emitter, PromptObserver observer) {
    this.request = request;
    this.emitter = emitter;
    this.observer =
        observer == null && request.promptLogprobs()
            ? new PromptLogprobs(request.prompt(), Math.max(0, request.sampling().logprobs()))
            : observer;
  }

  GenerateRequest request() {
    return request;
  }

  /** Who sees the prompt's logits; null for nobody. */
  PromptObserver observer() {
    return observer;
  }

  /**
   * Remembers what the scheduler knows it by.
   *
   * @param newResident whether its adapter could be used at once
   */
  void admitted(Sequence newSequence, boolean newResident) {
    sequence = newSequence;
    resident = newResident;
  }

  /** Whether it holds KV blocks or is about to. */
  boolean runsNow() {
    return sequence.state() == Sequence.State.RUNNING;
  }

  /** The adapter generation that computes it. */
  Optional<AdapterId> adapter() {
    return sequence.adapter();
  }

  /** Whether the subscriber has been told of the end, or has left. */
  boolean ended() {
    return ended;
  }

  /** The subscriber has left. */
  void cancelled() {
    ended = true;
  }

  /**
   * A step of it failed on the LoRA side, or its adapter is not to be had.
   *
   * @return whether this is the first time since it last went on
   */
  boolean troubled(InfiniLoraException cause, long nanos) {
    boolean first = trouble == null;
    trouble = cause;
    if (first) {
      troubledAt = nanos;
    }
    return first;
  }

  /** A step of it was computed. */
  void recovered() {
    trouble = null;
  }

  /** Whether it has been in trouble for longer than this. */
  boolean givesUp(long nanos, Duration patience) {
    return trouble != null && nanos - troubledAt >= patience.toNanos();
  }

  /** What to tell the subscriber then. */
  InfiniLoraException trouble(Duration patience) {
    return new InfiniLoraException(
        trouble.code(),
        "adapter %s could not be computed for %s: %s"
            .formatted(
                sequence.adapter().map(AdapterId::name).orElseThrow(),
                patience.toMillis() + " ms",
                trouble.getMessage()),
        trouble);
  }

  /** It joined the waiting queue. */
  void queued(EngineMetrics metrics, long nanos) {
    queuedAt = nanos;
    metrics.queued(request.adapter());
  }

  /** Reports an admission or a preemption since the last call. */
  void trackState(EngineMetrics metrics, long nanos) {
    Sequence.State state = sequence.state();
    if (state == Sequence.State.RUNNING && !running) {
      running = true;
      metrics.admitted(request.adapter(), nanos - queuedAt, resident);
      metrics.prefixLookup(sequence.promptLength(), sequence.cachedPromptTokens());
    } else if (state == Sequence.State.WAITING && running) {
      running = false;
      queuedAt = nanos;
      metrics.preempted(request.adapter());
    }
  }

  /** Whether it computed, rather than waited, when its state was last tracked. */
  boolean running() {
    return running;
  }

  /** It is gone from the scheduler. */
  void left(EngineMetrics metrics) {
    if (running) {
      metrics.released(request.adapter());
    } else {
      metrics.abandoned(request.adapter());
    }
  }

  void token(int index, int token, TokenLogprobs logprobs) {
    reportStart();
    emitter.emit(new TokenEvent.Token(index, token, logprobs));
  }

  void finished(FinishReason reason) {
    reportStart();
    ended = true;
    emitter.emit(
        new TokenEvent.Finished(
            reason,
            sequence.promptLength(),
            sequence.cachedPromptTokens(),
            sequence.outputLength()));
    emitter.complete();
  }

  void failed(Throwable cause) {
    ended = true;
    // Mutiny would print it. Choices of one answer end together: the first failure cancels the
    // rest.
    if (!emitter.isCancelled()) {
      emitter.fail(cause);
    }
  }

  private void reportStart() {
    if (startReported) {
      return;
    }
    startReported = true;
    if (request.reportStart()) {
      emitter.emit(new TokenEvent.Started(sequence.adapter(), sequence.cachedPromptTokens()));
    }
    if (observer instanceof PromptLogprobs collected && request.promptLogprobs()) {
      emitter.emit(new TokenEvent.Prompt(collected.logprobs()));
    }
  }
}
