package io.infinilora.node;

import io.infinilora.config.ConfigLoader;
import io.infinilora.core.AdapterId;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.SamplingParams;
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

/**
 * What a node takes of a GPU's memory after its largest steps, beside what was planned.
 *
 * <p>Usage: {@code MemoryUse KEY=VALUE...}, settings of the node.
 *
 * @param planned bytes by purpose, as the device calls it
 * @param used likewise
 */
record MemoryUse(Map<String, Long> planned, Map<String, Long> used) {
  private static final int OUTPUT = 16;

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
    List<AdapterId> adapters = node.engine().adapters();
    List<CompletableFuture<?>> requests = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      int[] tokens = new int[prompt];
      for (int t = 0; t < prompt; t++) {
        tokens[t] = (31 * i + 7 * t) % node.engine().model().vocab();
      }
      Optional<String> adapter =
          adapters.isEmpty()
              ? Optional.empty()
              : Optional.of(adapters.get(i % adapters.size()).name());
      requests.add(
          node.engine()
              .generate(
                  new GenerateRequest(
                      "r" + i, tokens, adapter, SamplingParams.greedy(OUTPUT).ignoringEos()))
              .collect()
              .asList()
              .subscribeAsCompletionStage());
    }
    requests.forEach(MemoryUse::await);
  }

  /**
   * Whether the workspace takes what was planned, or less, but not as little as half: terms of
   * experts are planned in float32, which Hopper has in fp16.
   */
  boolean workspaceAsPlanned() {
    long bytes = used.getOrDefault("workspace", 0L);
    long most = planned.get("workspace");
    return bytes <= most && bytes >= 0.5 * most;
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
