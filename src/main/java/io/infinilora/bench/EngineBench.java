package io.infinilora.bench;

import io.infinilora.config.ByteSize;
import io.infinilora.config.EngineConfig;
import io.infinilora.config.InfiniLoraConfig;
import io.infinilora.config.ServerConfig;
import io.infinilora.core.AdapterId;
import io.infinilora.core.GenerateRequest;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.LoraMode;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenEvent;
import io.infinilora.metrics.EngineMetrics;
import io.infinilora.node.Node;
import io.vertx.core.Future;
import io.vertx.core.Vertx;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * The engine end to end, without HTTP: decode of one stream, prefill of one prompt, and eight
 * streams on different adapters, in each LoRA mode. Prints one JSON object per mode.
 *
 * <p>Usage: {@code EngineBench MODEL ADAPTERS_DIR REPEATS [MODE...]}; the directory may hold fewer
 * than eight adapters, which then serve several streams.
 */
public final class EngineBench {
  private static final int DECODE_TOKENS = 128;
  private static final int SHORT_PROMPT = 16;
  private static final int LONG_PROMPT = 512;
  private static final int STREAMS = 8;
  private static final int STREAM_TOKENS = 64;
  private static final int WARM_UPS = 3;

  private final Node node;
  private final int vocab;
  private final Random random = new Random(1);
  private int requests;

  private EngineBench(Node node) {
    this.node = node;
    this.vocab = node.engine().model().vocab();
  }

  /** Runs the benchmark. */
  public static void main(String[] args) {
    Path model = Path.of(args[0]);
    Path adapters = Path.of(args[1]);
    int repeats = Integer.parseInt(args[2]);
    LoraMode[] modes =
        args.length > 3
            ? Arrays.stream(args, 3, args.length)
                .map(a -> LoraMode.valueOf(a.toUpperCase(Locale.ROOT)))
                .toArray(LoraMode[]::new)
            : LoraMode.values();
    for (LoraMode mode : modes) {
      Node node =
          await(Node.start(Vertx.vertx(), settings(model, adapters, mode), EngineMetrics.NONE));
      node.adapterReport().failures().forEach(f -> System.err.println(f.getMessage()));
      System.out.println(new EngineBench(node).run(mode, repeats));
      await(node.close());
    }
  }

  private static InfiniLoraConfig settings(Path model, Path adapters, LoraMode mode) {
    return new InfiniLoraConfig(
        Optional.of(model),
        Optional.of(adapters),
        mode,
        ServerConfig.DEFAULTS,
        new EngineConfig(
            Optional.of(Runtime.getRuntime().availableProcessors()),
            Optional.of(1),
            Optional.of(1024),
            new ByteSize(512L << 20),
            16,
            64,
            LONG_PROMPT,
            LONG_PROMPT, /* prefixCache, so that every prefill is computed */
            false,
            EngineConfig.DEFAULT_POLICY,
            Duration.ofSeconds(60)));
  }

  private String run(LoraMode mode, int repeats) {
    List<String> names = node.engine().adapters().stream().map(AdapterId::name).toList();
    Map<String, double[]> samples = new TreeMap<>();
    for (int i = -WARM_UPS; i < repeats; i++) {
      record(samples, "decode_1_stream_tokens_per_s", i, repeats, decode(Optional.empty()));
      record(samples, "prefill_512_tokens_per_s", i, repeats, prefill());
      record(samples, "streams_8_base_tokens_per_s", i, repeats, streams(List.of()));
      if (!names.isEmpty()) {
        record(
            samples,
            "decode_1_stream_adapter_tokens_per_s",
            i,
            repeats,
            decode(Optional.of(names.getFirst())));
        record(samples, "streams_8_adapters_tokens_per_s", i, repeats, streams(names));
      }
    }
    StringBuilder json = new StringBuilder("{\"engine\":\"infinilora\",\"lora\":\"");
    json.append(mode.name().toLowerCase(Locale.ROOT))
        .append("\",\"adapters\":")
        .append(names.size());
    samples.forEach((key, values) -> json.append(",\"%s\":%.1f".formatted(key, median(values))));
    return json.append('}').toString();
  }

  private static void record(
      Map<String, double[]> samples, String key, int index, int repeats, double value) {
    if (index >= 0) {
      samples.computeIfAbsent(key, k -> new double[repeats])[index] = value;
    }
  }

  private static double median(double[] values) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length / 2];
  }

  /** Tokens per second between the first token and the last. */
  private double decode(Optional<String> adapter) {
    return generate(SHORT_PROMPT, adapter, DECODE_TOKENS).join().decodeRate();
  }

  /** Prompt tokens over the time to the first output token. */
  private double prefill() {
    return LONG_PROMPT / generate(LONG_PROMPT, Optional.empty(), 1).join().secondsToFirst();
  }

  /** All output tokens over the time from the first request to the last token. */
  private double streams(List<String> adapters) {
    long start = System.nanoTime();
    List<CompletableFuture<Timing>> running = new ArrayList<>();
    for (int i = 0; i < STREAMS; i++) {
      Optional<String> adapter =
          adapters.isEmpty() ? Optional.empty() : Optional.of(adapters.get(i % adapters.size()));
      running.add(generate(SHORT_PROMPT, adapter, STREAM_TOKENS));
    }
    long end = running.stream().mapToLong(f -> f.join().last).max().orElseThrow();
    return STREAMS * STREAM_TOKENS / seconds(end - start);
  }

  private CompletableFuture<Timing> generate(
      int promptLength, Optional<String> adapter, int tokens) {
    int[] prompt = random.ints(promptLength, 0, vocab).toArray();
    Timing timing = new Timing(System.nanoTime());
    return node.engine()
        .generate(
            new GenerateRequest(
                "bench-" + requests++,
                prompt,
                adapter,
                SamplingParams.greedy(tokens).ignoringEos()))
        .filter(TokenEvent.Token.class::isInstance)
        .onItem()
        .invoke(timing::token)
        .collect()
        .last()
        .map(e -> timing)
        .subscribeAsCompletionStage()
        .orTimeout(300, TimeUnit.SECONDS);
  }

  private static double seconds(long nanos) {
    return nanos / 1e9;
  }

  /** When the tokens of one request came. */
  private static final class Timing {
    private final long start;
    private long first;
    private long last;
    private int count;

    Timing(long start) {
      this.start = start;
    }

    void token() {
      last = System.nanoTime();
      if (count++ == 0) {
        first = last;
      }
    }

    double secondsToFirst() {
      return seconds(first - start);
    }

    double decodeRate() {
      return (count - 1) / seconds(last - first);
    }
  }

  private static <T> T await(Future<T> future) {
    try {
      return future.toCompletionStage().toCompletableFuture().get(5, TimeUnit.MINUTES);
    } catch (ExecutionException e) {
      throw e.getCause() instanceof InfiniLoraException known
          ? known
          : new IllegalStateException(e.getCause());
    } catch (InterruptedException | TimeoutException e) {
      throw new IllegalStateException(e);
    }
  }
}
