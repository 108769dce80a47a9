package io.infinilora.node;

import io.infinilora.config.ConfigLoader;
import io.infinilora.core.AdapterId;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.metrics.EngineMetrics;
import io.vertx.core.Vertx;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.Consumer;

/**
 * What a node takes of a GPU's memory after its largest steps, beside what was planned.
 *
 * <p>Usage: {@code MemoryUse KEY=VALUE...}, settings of the node.
 *
 * @param planned bytes by purpose, as the device calls it
 * @param used likewise
 */
record MemoryUse(Map<String, Long> planned, Map<String, Long> used) {
  private static final AtomicInteger IDS = new AtomicInteger();
  private static final int OUTPUT = 16;

  /** Of a context that is filled: others come and go meanwhile. */
  private static final int LONG_OUTPUT = 200;

  /** Contexts from here on are filled, too. */
  private static final int LONG_CONTEXT = 1 << 16;

  /** Prints it. */
  public static void main(String[] args) {
    Map<String, String> settings = new HashMap<>();
    for (String arg : args) {
      int at = arg.indexOf('=');
      settings.put(arg.substring(0, at), arg.substring(at + 1));
    }
    System.out.println(String.join(" ", args) + "\n" + of(settings));
    System.exit(0);
  }

  /** Starts a node on the GPU, runs full steps, and looks. */
  static MemoryUse of(Map<String, String> settings) {
    Map<String, String> all = new HashMap<>(settings);
    all.put("device.kind", "cuda");
    Node node =
        await(
            Node.start(Vertx.vertx(), ConfigLoader.load(all, Optional.empty()), EngineMetrics.NONE)
                .toCompletionStage()
                .toCompletableFuture());
    try {
      await(node.warmUp(Duration.ofSeconds(1)).toCompletionStage().toCompletableFuture());
      fill(node);
      if (node.engine().contextLength() >= LONG_CONTEXT) {
        lengthen(node);
      }
      MemoryPlan plan = node.memoryPlan().orElseThrow();
      return new MemoryUse(
          Map.of(
              "weights",
              plan.weights(),
              "adapters",
              plan.adapters(),
              "workspace",
              plan.workspace(),
              "keys and values",
              plan.keysAndValues()),
          node.backend().usedMemory());
    } finally {
      await(node.close().toCompletionStage().toCompletableFuture());
    }
  }

  /** Prompts that fill a step, and then all of them at once. */
  private static void fill(Node node) {
    int prompt =
        Math.min(node.schedulerConfig().prefillChunk(), node.engine().contextLength() - OUTPUT);
    int count =
        Math.max(
            node.schedulerConfig().maxRunning(),
            Math.ceilDiv(node.schedulerConfig().maxBatchedTokens(), prompt));
    List<CompletableFuture<?>> requests = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      requests.add(generate(node, i, prompt, OUTPUT, token -> {}));
    }
    requests.forEach(MemoryUse::await);
  }

  /** One sequence that fills the context decodes among as many short ones as there may be. */
  private static void lengthen(Node node) {
    CompletableFuture<Void> decoding = new CompletableFuture<>();
    int prompt = node.engine().contextLength() - LONG_OUTPUT;
    List<CompletableFuture<?>> requests = new ArrayList<>();
    requests.add(generate(node, 0, prompt, LONG_OUTPUT, token -> decoding.complete(null)));
    await(decoding);
    for (int i = 1; i < node.schedulerConfig().maxRunning(); i++) {
      requests.add(generate(node, i, OUTPUT, OUTPUT, token -> {}));
    }
    requests.forEach(MemoryUse::await);
  }

  private static CompletableFuture<?> generate(
      Node node, int number, int prompt, int output, Consumer<TokenEvent> listener) {
    int[] tokens = new int[prompt];
    for (int t = 0; t < prompt; t++) {
      tokens[t] = (31 * number + 7 * t) % node.engine().model().vocab();
    }
    List<AdapterId> adapters = node.engine().adapters();
    Optional<String> adapter =
        adapters.isEmpty()
            ? Optional.empty()
            : Optional.of(adapters.get(number % adapters.size()).name());
    return node.engine()
        .generate(
            new GenerateRequest(
                "r" + IDS.incrementAndGet(),
                tokens,
                adapter,
                SamplingParams.greedy(output).ignoringEos()))
        .invoke(listener)
        .collect()
        .asList()
        .subscribeAsCompletionStage();
  }

  /** Whether the workspace takes what was planned, or at most a fifth less. */
  boolean workspaceAsPlanned() {
    long bytes = used.getOrDefault("workspace", 0L);
    long most = planned.get("workspace");
    return bytes <= most && bytes >= 0.8 * most;
  }

  private static <T> T await(CompletableFuture<T> future) {
    return future.orTimeout(100, TimeUnit.SECONDS).join();
  }

  @Override
  public String toString() {
    StringBuilder text = new StringBuilder();
    planned.forEach(
        (purpose, bytes) ->
            text.append(
                String.format(
                    Locale.ROOT,
                    "  %-16s planned %10.2f MiB, used %10.2f MiB%n",
                    purpose,
                    bytes / 0x1p20,
                    used.getOrDefault(purpose, 0L) / 0x1p20)));
    return text.toString();
  }
}
