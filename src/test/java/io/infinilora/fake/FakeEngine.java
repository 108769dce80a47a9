package io.infinilora.fake;

import io.infinilora.core.Activation;
import io.infinilora.core.AdapterId;
import io.infinilora.core.Engine;
import io.infinilora.core.EngineLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.FinishReason;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TokenEvent;
import io.infinilora.core.TokenLogprobs;
import io.smallrye.mutiny.Multi;
import io.smallrye.mutiny.Uni;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Function;

/**
 * An engine without a model: a script says what becomes of each request, and one that was begun
 * elsewhere goes on in the script. Emits as fast as the subscriber asks, on the thread that asks.
 * Safe for any thread.
 */
public final class FakeEngine implements Engine {
  /** Vocabulary that token ids must lie in. */
  public static final int VOCAB = 512;

  // What is emitted at negative positions.
  private static final int START = -2;
  private static final int PROMPT = -1;

  /** Every request that was subscribed to. */
  public final Queue<GenerateRequest> requests = new ConcurrentLinkedQueue<>();

  /** Subscriptions that were cancelled before their end. */
  public final AtomicInteger cancelled = new AtomicInteger();

  /** Subscriptions that have neither ended nor been cancelled. */
  public final AtomicInteger active = new AtomicInteger();

  /** A permit per cancelled subscription. */
  public final Semaphore cancellations = new Semaphore(0);

  /** A permit per generation that reached its pause. */
  public final Semaphore paused = new Semaphore(0);

  /** Tokens emitted over all requests. */
  public final AtomicLong emitted = new AtomicLong();

  private final List<AdapterId> adapters;
  private volatile int contextLength = 256;
  private volatile Function<GenerateRequest, Script> scripts = r -> Script.tokens(1);

  /** An engine with adapters of these names. */
  public FakeEngine(String... adapters) {
    this.adapters = List.of(adapters).stream().map(n -> new AdapterId(n, "0".repeat(64))).toList();
  }

  /** What becomes of each request. */
  public FakeEngine scripts(Function<GenerateRequest, Script> function) {
    scripts = function;
    return this;
  }

  /** What becomes of every request. */
  public FakeEngine plays(Script script) {
    return scripts(r -> script);
  }

  /** Longest prompt plus output. */
  public FakeEngine contextLength(int tokens) {
    contextLength = tokens;
    return this;
  }

  /** Log-probability that the fake reports for a token. */
  public static float logprob(int token) {
    return -token / 100f;
  }

  @Override
  public Multi<TokenEvent> generate(GenerateRequest request) {
    return Multi.createFrom()
        .deferred(
            () -> {
              requests.add(request);
              Script script = scripts.apply(request);
              if (script.refusal() != null) {
                return Multi.createFrom().failure(script.refusal());
              }
              active.incrementAndGet();
              return interrupted(script, request, events(script, request))
                  .onTermination()
                  .invoke(
                      (failure, wasCancelled) -> {
                        active.decrementAndGet();
                        if (wasCancelled) {
                          cancelled.incrementAndGet();
                          cancellations.release();
                        }
                      });
            });
  }

  private Multi<TokenEvent> interrupted(
      Script script, GenerateRequest request, Multi<TokenEvent> all) {
    if (script.pauseAfter() == Integer.MAX_VALUE) {
      return all;
    }
    int before = script.pauseAfter() + (request.reportStart() ? 1 : 0);
    Multi<TokenEvent> rest =
        Multi.createFrom()
            .deferred(
                () -> {
                  paused.release();
                  return Uni.createFrom()
                      .completionStage(script.goOn())
                      .onItem()
                      .transformToMulti(ignored -> all.skip().first(before));
                });
    return Multi.createBy().concatenating().streams(all.select().first(before), rest);
  }

  private Multi<TokenEvent> events(Script script, GenerateRequest request) {
    return Multi.createFrom()
        .<Integer, TokenEvent>generator(
            () -> request.reportStart() ? START : afterStart(request),
            (i, emitter) -> {
              if (i == START) {
                emitter.emit(new TokenEvent.Started(adapter(request), cached(request)));
                return afterStart(request);
              } else if (i == PROMPT) {
                emitter.emit(prompt(request));
                return request.generated().length;
              } else if (i >= script.failAfter()) {
                emitter.fail(new InfiniLoraException(ErrorCode.INTERNAL, "fake failure"));
              } else if (i < request.sampling().maxTokens() && script.has(i)) {
                emitted.incrementAndGet();
                emitter.emit(
                    new TokenEvent.Token(i, script.token(i), logprobs(request, script.token(i))));
              } else {
                emitter.emit(
                    new TokenEvent.Finished(
                        script.has(i) ? FinishReason.LENGTH : FinishReason.STOP,
                        request.prompt().length,
                        cached(request),
                        i));
                emitter.complete();
              }
              return i + 1;
            });
  }

  private static int afterStart(GenerateRequest request) {
    return request.promptLogprobs() ? PROMPT : request.generated().length;
  }

  private Optional<AdapterId> adapter(GenerateRequest request) {
    return request
        .adapter()
        .flatMap(name -> adapters.stream().filter(a -> a.name().equals(name)).findFirst());
  }

  private static int cached(GenerateRequest request) {
    return request.started().map(TokenEvent.Started::cachedPromptTokens).orElse(0);
  }

  private static TokenEvent.Prompt prompt(GenerateRequest request) {
    List<TokenLogprobs> entries = new ArrayList<>();
    for (int token : request.prompt()) {
      entries.add(entries.isEmpty() ? null : logprobs(request, token));
    }
    return new TokenEvent.Prompt(entries);
  }

  private static TokenLogprobs logprobs(GenerateRequest request, int token) {
    int count = request.sampling().logprobs();
    if (count < 0) {
      return null;
    }
    int[] top = new int[count];
    float[] logprobs = new float[count];
    for (int i = 0; i < count; i++) {
      top[i] = token + i;
      logprobs[i] = logprob(token + i);
    }
    return new TokenLogprobs(logprob(token), top, logprobs);
  }

  @Override
  public ModelSpec model() {
    return new ModelSpec(
        "llama",
        1,
        64,
        VOCAB,
        contextLength,
        new ModelSpec.Attention(1, 1, 64, false, false, false, false, 0, List.of(0)),
        new ModelSpec.Mlp(128, Activation.SWIGLU, null),
        ModelSpec.Norm.RMS,
        1e-5,
        new RopeSpec(10_000, new RopeSpec.None()),
        true,
        -1,
        List.of());
  }

  @Override
  public int contextLength() {
    return contextLength;
  }

  @Override
  public List<AdapterId> adapters() {
    return adapters;
  }

  @Override
  public EngineLoad load() {
    return new EngineLoad(active.get(), 0, 0, 1, 0);
  }
}
