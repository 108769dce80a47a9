package io.infinilora.node;

import io.infinilora.backend.cuda.Poison;
import io.infinilora.bench.Soak;
import io.infinilora.config.ByteSize;
import io.infinilora.config.DeviceKind;
import io.infinilora.core.AdapterLoad;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.metrics.EngineMetrics;
import io.vertx.core.Vertx;
import java.nio.file.Path;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;

/**
 * A process that loses its GPU, and looks at what becomes of requests, readiness and the end. Says
 * what it sees; exit code 0 if all is as it should be.
 *
 * <p>Usage: {@code LostDevice MODEL_DIRECTORY MODE POISON running|idle|unnoticed}.
 */
final class LostDevice {
  private static final int SECONDS = 60;

  /** A call of the driver, or a launch, what it answered, and what that means. */
  private static final Pattern CAUSE =
      Pattern.compile(
          "(cu[A-Z]\\w+|launch of \\w+|cublasLtMatmul).*: CUDA_ERROR_\\w+.*; the GPU cannot be used by this process"
              + " any more: restart it");

  private final Node node;
  private final Runnable poison;
  private boolean good = true;

  private LostDevice(Node node, Runnable poison) {
    this.node = node;
    this.poison = poison;
  }

  /** Runs it. */
  public static void main(String[] args) {
    Path model = Path.of(args[0]);
    Node node =
        await(
            Node.start(
                    Vertx.vertx(),
                    Soak.settings(
                        model, DeviceKind.CUDA, LoraMode.valueOf(args[1]), ByteSize.mebibytes(8)),
                    EngineMetrics.NONE)
                .toCompletionStage()
                .toCompletableFuture());
    boolean adapters = LoraMode.valueOf(args[1]) != LoraMode.NONE;
    boolean good = false;
    try {
      LostDevice process = new LostDevice(node, Poison.valueOf(args[2]).load());
      switch (args[3]) {
        case "running" -> process.whileARequestRuns(adapters, model);
        case "idle" -> process.whileNothingRuns(adapters);
        default -> process.poison.run();
      }
      process.close();
      good = process.good;
    } finally {
      System.exit(good ? 0 : 1);
    }
  }

  private void whileARequestRuns(boolean adapters, Path model) {
    CountDownLatch some = new CountDownLatch(8);
    CompletableFuture<Void> first = request("first", 1, adapters, some);
    CompletableFuture<Void> beside = request("beside", 30, false, new CountDownLatch(0));
    try {
      expect("the request runs", some.await(SECONDS, TimeUnit.SECONDS));
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
    expect("the device is there", node.fault().isEmpty());
    poison.run();
    expectLost("the running request", first);
    expectLost("the one beside it", beside);
    expectFault();
    expectLost("a later request", request("later", 5, adapters, new CountDownLatch(0)));
    expectLost("one more, of a long prompt", request("long", 60, false, new CountDownLatch(0)));
    if (adapters) {
      expectLost(
          "loading an adapter, and a request with it",
          node.adapters()
              .load(
                  new AdapterLoad(
                      "late", model.resolve("adapters/a1").toString(), false, false, false, true))
              .subscribeAsCompletionStage()
              .thenCompose(v -> request("adapted", 5, Optional.of("late"), new CountDownLatch(0))));
    }
  }

  private void whileNothingRuns(boolean adapters) {
    await(request("first", 5, adapters, new CountDownLatch(0), 4));
    poison.run();
    long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(2);
    while (node.fault().isEmpty() && System.nanoTime() < end) {
      Thread.onSpinWait();
    }
    expectFault();
    expectLost("a later request", request("later", 5, adapters, new CountDownLatch(0)));
  }

  private void expectFault() {
    Optional<InfiniLoraException> fault = node.fault();
    expect("the device's fault is known: " + fault, fault.isPresent());
    expect(
        "it names the call and its meaning",
        fault.isPresent() && CAUSE.matcher(fault.get().getMessage()).find());
    expect(
        "it makes the server unavailable",
        fault.isPresent() && fault.get().code() == ErrorCode.UNAVAILABLE);
  }

  private void expectLost(String what, CompletableFuture<?> end) {
    long start = System.nanoTime();
    String seen;
    boolean right = false;
    try {
      await(end);
      seen = "ends well";
    } catch (CompletionException e) {
      seen = "ends with " + e.getCause();
      right =
          e.getCause() instanceof InfiniLoraException cause
              && cause.code() == ErrorCode.UNAVAILABLE
              && CAUSE.matcher(cause.getMessage()).find();
    }
    expect(
        "%s %s, after %d ms".formatted(what, seen, (System.nanoTime() - start) / 1_000_000), right);
  }

  private void expect(String what, boolean holds) {
    System.out.println((holds ? "ok    " : "WRONG ") + what);
    good &= holds;
  }

  private void close() {
    long start = System.nanoTime();
    try {
      await(node.close().toCompletionStage().toCompletableFuture());
      expect("closed after %d ms".formatted((System.nanoTime() - start) / 1_000_000), true);
    } catch (CompletionException e) {
      e.printStackTrace(System.out);
      expect("closing ends with " + e.getCause(), false);
    }
  }

  private CompletableFuture<Void> request(
      String id, int prompt, boolean adapter, CountDownLatch tokens) {
    return request(id, prompt, adapter, tokens, 180);
  }

  private CompletableFuture<Void> request(
      String id, int prompt, boolean adapter, CountDownLatch tokens, int length) {
    return request(id, prompt, adapter ? Optional.of("a0") : Optional.empty(), tokens, length);
  }

  private CompletableFuture<Void> request(
      String id, int prompt, Optional<String> adapter, CountDownLatch tokens) {
    return request(id, prompt, adapter, tokens, 180);
  }

  private CompletableFuture<Void> request(
      String id, int prompt, Optional<String> adapter, CountDownLatch tokens, int length) {
    CompletableFuture<Void> end = new CompletableFuture<>();
    node.engine()
        .generate(
            new GenerateRequest(
                id, new int[prompt], adapter, SamplingParams.greedy(length).ignoringEos()))
        .subscribe()
        .with(event -> tokens.countDown(), end::completeExceptionally, () -> end.complete(null));
    return end;
  }

  private static <T> T await(CompletableFuture<T> future) {
    return future.orTimeout(SECONDS, TimeUnit.SECONDS).join();
  }
}
