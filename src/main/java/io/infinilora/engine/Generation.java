package io.infinilora.engine;

import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.scheduler.Sequence;
import io.smallrye.mutiny.subscription.MultiEmitter;

/** A request in flight: its sequence in the scheduler and its subscriber. Event loop only. */
final class Generation {
  private final GenerateRequest request;
  private final MultiEmitter<? super TokenEvent> emitter;
  private final PromptObserver observer;
  private Sequence sequence;
  private int slot;
  private boolean promptReported;
  private boolean ended;
  private long queuedAt;
  private boolean running;

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

  /** Remembers what the scheduler and the LoRA side know it by. */
  void admitted(Sequence newSequence, int newSlot) {
    sequence = newSequence;
    slot = newSlot;
  }

  /** Slot of its adapter, or {@link io.infinilora.adapter.AdapterGroups#NO_ADAPTER}. */
  int slot() {
    return slot;
  }

  /** Whether the subscriber has been told of the end, or has left. */
  boolean ended() {
    return ended;
  }

  /** The subscriber has left. */
  void cancelled() {
    ended = true;
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
      metrics.admitted(request.adapter(), nanos - queuedAt, true);
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
    reportPrompt();
    emitter.emit(new TokenEvent.Token(index, token, logprobs));
  }

  void finished(FinishReason reason) {
    reportPrompt();
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
    emitter.fail(cause);
  }

  private void reportPrompt() {
    if (!promptReported
        && observer instanceof PromptLogprobs collected
        && request.promptLogprobs()) {
      emitter.emit(new TokenEvent.Prompt(collected.logprobs()));
    }
    promptReported = true;
  }
}
