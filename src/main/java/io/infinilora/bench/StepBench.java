package io.infinilora.bench;

import io.infinilora.backend.Backend;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.SampleRow;
import io.infinilora.backend.Tensor;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.SamplingParams;
import io.infinilora.model.LoraPort;
import io.infinilora.model.Transformer;
import io.infinilora.model.Workspace;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.Random;
import java.util.stream.IntStream;

/**
 * Times whole steps of a loaded model on its device, from the call to the sampled tokens on the
 * host, beside the least time that the bytes or the operations take. Steps are what the engine's
 * driver thread does; scheduling is not part of them.
 */
public final class StepBench {
  private static final int BLOCK = 16;
  private static final int WARM_UPS = 6;

  /**
   * Steps before the first that counts. What the host does in a step is compiled after some hundred
   * calls, and takes twice as long before: a server's steps are compiled ones.
   */
  private static final int COMPILING_STEPS = 600;

  private static final int DECODE_STEPS = 40;
  private static final int STEPS = WARM_UPS + DECODE_STEPS;
  private static final int PREFILL_STEPS = 3;

  /** Rows that write their keys and values at once while contexts are filled. */
  private static final int FILL_ROWS = 1024;

  private final Transformer model;
  private final Backend backend;
  private final OpStream ops;
  private final ModelSpec spec;
  private final double bandwidth;
  private final double matrixRate;
  private final Workspace workspace;
  private final KvCache cache;
  private final Random random = new Random(3);
  private boolean compiled;

  /**
   * A benchmark.
   *
   * @param sequences most sequences of a decode step
   * @param context most positions of each before the first step
   * @param rows most rows of a prefill step
   * @param bandwidth bytes per second that the device's memory gives, as measured
   * @param matrixRate floating-point operations per second of large bf16 products, as measured
   */
  public StepBench(
      Transformer model,
      Backend backend,
      int sequences,
      int context,
      int rows,
      double bandwidth,
      double matrixRate) {
    this.model = model;
    this.backend = backend;
    this.spec = model.spec();
    this.bandwidth = bandwidth;
    this.matrixRate = matrixRate;
    ops = backend.openStream("bench", Runtime.getRuntime().availableProcessors());
    workspace =
        Workspace.allocate(
            backend, spec, Math.max(Math.max(FILL_ROWS, rows), sequences), sequences);
    ModelSpec.Attention a = spec.attention();
    int blocks = Math.max(sequences * blocks(context + STEPS), blocks(rows) + sequences);
    cache = backend.kvCache(new KvLayout(spec.layers(), blocks, BLOCK, a.kvHeads(), a.headDim()));
  }

  private static int blocks(int positions) {
    return (positions + BLOCK - 1) / BLOCK;
  }

  /**
   * Decode steps of {@code batch} sequences with {@code context} positions each.
   *
   * @param adapters adapters that the rows use in turn; 0 for none
   * @return a line of the report
   */
  public String decode(int batch, int context, int adapters, int rank, long adapterMemory) {
    return decode(batch, context, adapters, rank, adapterMemory, true);
  }

  /** The same, with every operator launched by itself, so that a profiler sees it. */
  String decodeUnrecorded(int batch, int context) {
    return decode(batch, context, 0, 0, 0, false);
  }

  private String decode(
      int batch, int context, int adapters, int rank, long adapterMemory, boolean recorded) {
    int[][] tables = tables(batch, blocks(context + STEPS));
    fill(tables, context);
    BenchLora lora =
        adapters == 0 ? null : new BenchLora(backend, spec, adapters, rank, adapterMemory);
    List<SampleRow> samples = new ArrayList<>();
    for (int r = 0; r < batch; r++) {
      samples.add(new SampleRow(SamplingParams.greedy(1), 0, new int[0], 0, 0));
    }
    int[] tokens = random.ints(batch, 0, spec.vocab()).toArray();
    long experts = 0;
    if (spec.mlp().moe() != null) {
      ExpertCount count = new ExpertCount(ops);
      model.forward(decodeBatch(tokens, context, tables), workspace, cache, count, ops);
      experts = count.distinct();
    }
    Object key = lora == null ? LoraPort.NONE : lora;
    for (int i = 0; recorded && !compiled && i < COMPILING_STEPS; i++) {
      step(
          decodeBatch(tokens, context, tables),
          key,
          lora == null ? LoraPort.NONE : lora.port(batch, ops));
      ops.sample(workspace.logits().first(batch), samples);
    }
    compiled |= recorded;
    double[] seconds = new double[STEPS];
    double[] host = new double[STEPS];
    for (int i = 0; i < STEPS; i++) {
      BatchLayout layout = decodeBatch(tokens, context + i, tables);
      LoraPort port = lora == null ? LoraPort.NONE : lora.port(batch, ops);
      long start = System.nanoTime();
      step(layout, recorded ? key : null, port);
      host[i] = (System.nanoTime() - start) / 1e9;
      // The same tokens in each step, so that experts are those that were counted.
      ops.sample(workspace.logits().first(batch), samples);
      seconds[i] = (System.nanoTime() - start) / 1e9;
    }
    if (lora != null) {
      lora.close();
    }
    double limit = limits().decodeBytes(experts, batch, context) / bandwidth;
    double median = median(seconds);
    return String.format(
        Locale.ROOT,
        "decode batch %d context %d adapters %d rank %d: %.3f ms (host %.0f us, 90 %% below %.0f), limit %.3f ms without adapters, %.0f %%, experts per layer %.1f",
        batch,
        context,
        adapters,
        rank,
        1e3 * median,
        1e6 * median(host),
        1e6 * percentile(host, 90),
        1e3 * limit,
        100 * limit / median,
        (double) experts / spec.layers());
  }

  private void step(BatchLayout layout, Object key, LoraPort port) {
    ops.step(
        layout,
        key,
        () -> {
          Tensor residual = model.forward(layout, workspace, cache, port, ops);
          model.logits(residual, layout.logitRows(), workspace, ops);
        });
  }

  /**
   * Prefills {@code prompts} prompts of {@code length} tokens in one step.
   *
   * @return a line of the report
   */
  public String prefill(int prompts, int length) {
    int rows = prompts * length;
    int[][] tables = tables(prompts, blocks(length));
    int[] positions = new int[rows];
    int[] starts = new int[prompts + 1];
    int[] last = new int[prompts];
    for (int p = 0; p < prompts; p++) {
      for (int i = 0; i < length; i++) {
        positions[p * length + i] = i;
      }
      starts[p + 1] = (p + 1) * length;
      last[p] = starts[p + 1] - 1;
    }
    int[] tokens = random.ints(rows, 0, spec.vocab()).toArray();
    BatchLayout layout = new BatchLayout(tokens, positions, starts, tables, last);
    double[] seconds = new double[1 + PREFILL_STEPS];
    for (int i = 0; i < seconds.length; i++) {
      ops.synchronize();
      long start = System.nanoTime();
      Tensor residual = model.forward(layout, workspace, cache, LoraPort.NONE, ops);
      model.logits(residual, last, workspace, ops);
      ops.synchronize();
      seconds[i] = (System.nanoTime() - start) / 1e9;
    }
    double median = median(Arrays.copyOfRange(seconds, 1, seconds.length));
    double flops = limits().prefillFlops(prompts, length);
    return String.format(
        Locale.ROOT,
        "prefill %d x %d: %.1f ms, limit %.1f ms, %.0f TFLOP/s, %.0f %% of the matrix rate",
        prompts,
        length,
        1e3 * median,
        1e3 * flops / matrixRate,
        flops / median / 1e12,
        100 * flops / median / matrixRate);
  }

  private StepLimits limits() {
    return new StepLimits(spec, 2, cache.bytesPerBlock() / cache.blockSize());
  }

  private static int[][] tables(int sequences, int blocks) {
    int[][] tables = new int[sequences][];
    for (int s = 0; s < sequences; s++) {
      int first = s * blocks;
      tables[s] = IntStream.range(first, first + blocks).toArray();
    }
    return tables;
  }

  private static BatchLayout decodeBatch(int[] tokens, int position, int[][] tables) {
    int[] positions = new int[tokens.length];
    Arrays.fill(positions, position);
    return new BatchLayout(
        tokens,
        positions,
        IntStream.rangeClosed(0, tokens.length).toArray(),
        tables,
        IntStream.range(0, tokens.length).toArray());
  }

  /** Computes the prompts, so that contexts hold what a model would have put there. */
  private void fill(int[][] tables, int context) {
    for (int[] table : tables) {
      for (int from = 0; from < context; from += FILL_ROWS) {
        int rows = Math.min(FILL_ROWS, context - from);
        BatchLayout layout =
            new BatchLayout(
                random.ints(rows, 0, spec.vocab()).toArray(),
                IntStream.range(from, from + rows).toArray(),
                new int[] {0, rows},
                new int[][] {table},
                new int[0]);
        model.forward(layout, workspace, cache, LoraPort.NONE, ops);
      }
    }
    ops.synchronize();
  }

  private static double median(double[] values) {
    return percentile(values, 50);
  }

  private static double percentile(double[] values, int percent) {
    double[] sorted = values.clone();
    Arrays.sort(sorted);
    return sorted[sorted.length * percent / 100];
  }
}
