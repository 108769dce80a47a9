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
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Function;

/**
 * An engine without a model. The output of a request is given by a function of the request and
 * repeated until {@code maxTokens}; it emits as fast as the subscriber asks. Scripts decide on the
 * thread: items come on the thread that requests them.
 */
public final class FakeEngine implements Engine {
  /** Vocabulary that token ids must lie in. */
  public static final int VOCAB = 512;

  /** Every request that was subscribed to. */
  public final Queue<GenerateRequest> requests = new ConcurrentLinkedQueue<>();

  /** Subscriptions that were cancelled before their end. */
  public final AtomicInteger cancelled = new AtomicInteger();

  /** Subscriptions that have neither ended nor been cancelled. */
  public final AtomicInteger active = new AtomicInteger();

  /** A permit per cancelled subscription. */
  public final Semaphore cancellations = new Semaphore(0);

  /** A permit per generation that reached the token of {@link #stallsAfter}. */
  public final Semaphore stalled = new Semaphore(0);

  /** Open once a generation reached the token of {@link #holdsAfter}. */
  public final CountDownLatch held = new CountDownLatch(1);

  /** Tokens emitted over all requests. */
  public final AtomicLong emitted = new AtomicLong();

  private final List<AdapterId> adapters;
  private volatile int contextLength = 256;
  private volatile Function<GenerateRequest, int[]> output = r -> new int[] {1};
  private volatile boolean endless;
  private volatile InfiniLoraException refusal;
  private volatile int failAfter = Integer.MAX_VALUE;
  private volatile int stallAfter = Integer.MAX_VALUE;
  private volatile int holdAfter = Integer.MAX_VALUE;
  private volatile CountDownLatch release = new CountDownLatch(0);

  /** An engine with adapters of these names. */
  public FakeEngine(String... adapters) {
    this.adapters = List.of(adapters).stream().map(n -> new AdapterId(n, "0".repeat(64))).toList();
  }

  /** What requests generate: these tokens, then an end-of-sequence token. */
  public FakeEngine generates(Function<GenerateRequest, int[]> tokens) {
    output = tokens;
    endless = false;
    return this;
  }

  /** Requests generate this token until {@code maxTokens}. */
  public FakeEngine generatesForever(int token) {
    output = r -> new int[] {token};
    endless = true;
    return this;
  }

  /** Longest prompt plus output. */
  public FakeEngine contextLength(int tokens) {
    contextLength = tokens;
    return this;
  }

  /** From now on every generation fails at once; null stops that. */
  public FakeEngine refuses(InfiniLoraException failure) {
    refusal = failure;
    return this;
  }

  /** From now on every generation fails after this many tokens. */
  public FakeEngine failsAfter(int tokens) {
    failAfter = tokens;
    return this;
  }

  /** From now on generations emit this many tokens and then neither more nor an end. */
  public FakeEngine stallsAfter(int tokens) {
    stallAfter = tokens;
    return this;
  }

  /** From now on generations go on after this many tokens only when the latch opens. */
  public FakeEngine holdsAfter(int tokens, CountDownLatch latch) {
    holdAfter = tokens;
    release = latch;
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
              if (refusal != null) {
                return Multi.createFrom().failure(refusal);
              }
              active.incrementAndGet();
              return events(request)
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

  private Multi<TokenEvent> events(GenerateRequest request) {
    Multi<TokenEvent> all = script(request);
    if (stallAfter != Integer.MAX_VALUE) {
      return Multi.createBy()
          .concatenating()
          .streams(
              all.select().first(stallAfter).onCompletion().invoke(stalled::release),
              Multi.createFrom().nothing());
    }
    if (holdAfter != Integer.MAX_VALUE) {
      CountDownLatch latch = release;
      Multi<TokenEvent> rest =
          Multi.createFrom()
              .deferred(
                  () -> {
                    held.countDown();
                    return Uni.createFrom()
                        .item(
                            () -> {
                              awaitUninterruptibly(latch);
                              return true;
                            })
                        .runSubscriptionOn(r -> Thread.ofPlatform().daemon().start(r))
                        .onItem()
                        .transformToMulti(opened -> all.skip().first(holdAfter));
                  });
      return Multi.createBy().concatenating().streams(all.select().first(holdAfter), rest);
    }
    return all;
  }

  private static void awaitUninterruptibly(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException(e);
    }
  }

  private Multi<TokenEvent> script(GenerateRequest request) {
    int[] tokens = output.apply(request);
    boolean forever = endless;
    return Multi.createFrom()
        .<Integer, TokenEvent>generator(
            () -> request.promptLogprobs() ? -1 : 0,
            (i, emitter) -> {
              if (i < 0) {
                emitter.emit(prompt(request));
              } else if (i >= failAfter) {
                emitter.fail(new InfiniLoraException(ErrorCode.INTERNAL, "fake failure"));
              } else if (i < request.sampling().maxTokens() && (forever || i < tokens.length)) {
                emitted.incrementAndGet();
                int token = forever ? tokens[i % tokens.length] : tokens[i];
                emitter.emit(new TokenEvent.Token(i, token, logprobs(request, token)));
              } else {
                boolean stop = !forever && i >= tokens.length;
                emitter.emit(
                    new TokenEvent.Finished(
                        stop ? FinishReason.STOP : FinishReason.LENGTH,
                        request.prompt().length,
                        0,
                        i));
                emitter.complete();
              }
              return i + 1;
            });
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
