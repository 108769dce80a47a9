package io.infinilora.engine;

import io.infinilora.core.AdapterId;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.OverloadedException;
import io.infinilora.core.TokenEvent;
import io.infinilora.scheduler.Scheduler;
import io.infinilora.scheduler.Sequence;
import java.time.Duration;
import java.util.Optional;
import java.util.Set;

/**
 * Lets requests in: checks their tokens, finds and leases their adapter, and puts them into the
 * scheduler's queue. Event loop only.
 */
final class Admission {
  private final ModelSpec model;
  private final Duration adapterWait;
  private final LoraRuntime lora;
  private final AdapterLeases leases;
  private final Scheduler scheduler;
  private final Generations generations;

  /**
   * The way into a scheduler.
   *
   * @param adapterWait how long a request may wait for its adapter to get into memory
   */
  Admission(
      ModelSpec model,
      Duration adapterWait,
      LoraRuntime lora,
      AdapterLeases leases,
      Scheduler scheduler,
      Generations generations) {
    this.model = model;
    this.adapterWait = adapterWait;
    this.lora = lora;
    this.leases = leases;
    this.scheduler = scheduler;
    this.generations = generations;
  }

  /**
   * Queues a request and takes it in.
   *
   * @throws InfiniLoraException if it is refused; whom a full queue refuses is told how long the
   *     queue is likely to take
   */
  void admit(Generation generation) {
    try {
      queue(generation);
    } catch (InfiniLoraException e) {
      throw e.code() == ErrorCode.OVERLOADED
          ? new OverloadedException(e.getMessage(), generations.timeForWaiting())
          : e;
    }
    generations.add(generation);
  }

  private void queue(Generation generation) {
    GenerateRequest request = generation.request();
    if (generations.find(request.id()) != null) {
      throw new InfiniLoraException(
          ErrorCode.INVALID_REQUEST,
          "a request with id %s is in flight already".formatted(request.id()));
    }
    checkTokens(request);
    Optional<AdapterId> adapter = request.adapter().map(name -> require(name, request));
    Sequence sequence = new Sequence(request, adapter, Set.copyOf(model.eosTokens()));
    boolean resident = adapter.isEmpty() || leases.acquire(adapter.get(), adapterWait.toNanos());
    try {
      scheduler.add(sequence);
    } catch (RuntimeException e) {
      adapter.ifPresent(id -> leases.release(id, false));
      throw e;
    }
    generation.admitted(sequence, resident);
  }

  /** The generation that the request was started with, or the current one. */
  private AdapterId require(String adapterName, GenerateRequest request) {
    Optional<AdapterId> current = lora.find(adapterName);
    Optional<AdapterId> begun = request.started().flatMap(TokenEvent.Started::adapter);
    if (begun.isPresent()) {
      if (begun.equals(current) || leases.holds(begun.get())) {
        return begun.get();
      }
      throw new InfiniLoraException(
          ErrorCode.CONFLICT,
          "adapter %s, which the generation was started with, %s"
              .formatted(
                  begun.get(),
                  current.map(id -> "has been replaced by " + id).orElse("has been unloaded")));
    }
    return current.orElseThrow(
        () ->
            new InfiniLoraException(
                ErrorCode.MODEL_NOT_FOUND, "there is no adapter named %s".formatted(adapterName)));
  }

  /** An id outside the vocabulary would fail the whole step, so it must not get that far. */
  private void checkTokens(GenerateRequest request) {
    int vocab = model.vocab();
    checkTokens("prompt", request.prompt(), vocab);
    checkTokens("generated", request.generated(), vocab);
    for (int token : request.sampling().logitBias().keySet()) {
      if (token < 0 || token >= vocab) {
        throw new InfiniLoraException(
            ErrorCode.INVALID_REQUEST,
            "logit_bias token %d is outside the vocabulary of %d".formatted(token, vocab));
      }
    }
  }

  private static void checkTokens(String what, int[] tokens, int vocab) {
    for (int i = 0; i < tokens.length; i++) {
      if (tokens[i] < 0 || tokens[i] >= vocab) {
        throw new InfiniLoraException(
            ErrorCode.INVALID_REQUEST,
            "%s token %d at index %d is outside the vocabulary of %d"
                .formatted(what, tokens[i], i, vocab));
      }
    }
  }
}
