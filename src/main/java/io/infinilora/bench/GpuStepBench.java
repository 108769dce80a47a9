package io.infinilora.bench;

import io.infinilora.backend.cuda.CudaBackend;
import io.infinilora.backend.cuda.CudaLimits;
import io.infinilora.backend.cuda.CudaProbe;
import io.infinilora.model.Transformer;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import java.nio.file.Path;

/**
 * Decode and prefill steps of random weights on a GPU.
 *
 * <p>Usage: {@code GpuStepBench CONFIG [CONTEXT [BATCH | prefill]]}; CONFIG is a {@code
 * config.json}. With BATCH, only decode steps of that size, launched operator by operator, for a
 * profiler; with {@code prefill}, only prefill steps.
 */
public final class GpuStepBench {
  private static final int[] BATCHES = {1, 8, 32, 64};
  private static final int PROMPTS = 8;
  private static final int PROMPT_TOKENS = 1024;
  private static final int ADAPTERS = 16;
  private static final int ADAPTED_ROWS = 32;
  private static final int RANK = 16;
  private static final long SEED = 1;

  private GpuStepBench() {}

  /** Runs the benchmark. */
  public static void main(String[] args) {
    Path config = Path.of(args[0]);
    int context = args.length > 1 ? Integer.parseInt(args[1]) : PROMPT_TOKENS;
    try (CudaBackend backend = new CudaBackend(0, (long) (0.97 * CudaProbe.freeMemory(0)));
        Checkpoint checkpoint = Checkpoints.random(config, SEED)) {
      double bandwidth = CudaLimits.copyBandwidth(backend);
      double rate = CudaLimits.matrixRate(backend);
      System.out.printf(
          "%s%ncopy bandwidth %.2f TB/s, matrix rate %.0f TFLOP/s%n",
          checkpoint.describe(), bandwidth / 1e12, rate / 1e12);
      long start = System.nanoTime();
      Transformer model = TransformerLoader.load(checkpoint, backend);
      System.out.printf(
          "loaded in %.1f s%n%s%n", (System.nanoTime() - start) / 1e9, backend.describe());
      StepBench bench =
          new StepBench(
              model,
              backend,
              BATCHES[BATCHES.length - 1],
              context,
              PROMPTS * PROMPT_TOKENS,
              bandwidth,
              rate);
      if (args.length > 2 && args[2].equals("prefill")) {
        System.out.println(bench.prefill(PROMPTS, PROMPT_TOKENS));
        return;
      }
      if (args.length > 2) {
        System.out.println(bench.decodeUnrecorded(Integer.parseInt(args[2]), context));
        return;
      }
      for (int batch : BATCHES) {
        System.out.println(bench.decode(batch, context, 0, 0, 0));
      }
      System.out.println(bench.prefill(PROMPTS, PROMPT_TOKENS));
      long free = backend.freeMemory().getAsLong() - (1L << 30);
      System.out.println(bench.decode(ADAPTED_ROWS, context, ADAPTERS, RANK, free));
    }
  }
}
