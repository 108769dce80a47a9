package io.infinilora.bench;

import io.infinilora.backend.cuda.CudaBackend;
import io.infinilora.backend.cuda.CudaLimits;
import io.infinilora.backend.cuda.CudaProbe;
import io.infinilora.model.TransformerLoader;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Checkpoints;
import io.infinilora.weights.ParameterMemory;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

/**
 * How fast a model comes from the page cache to a GPU, beside the rate of copies from pinned
 * memory. The first load of a process is what a server's start has; the others tell what is lost at
 * the start.
 *
 * <p>Usage: {@code LoadBench DIRECTORY [LAYERS [ROUNDS]]}. If the directory holds no model, or is
 * not there, a llama model of random weights and so many layers (16) is written there first.
 */
public final class LoadBench {
  private static final int LAYERS = 16;
  private static final int ROUNDS = 4;

  /** Of the sizes of what devices hold. */
  private static final int MULTIPLE = 8;

  private LoadBench() {}

  /** Runs the benchmark. */
  public static void main(String[] args) throws IOException {
    Path directory = Path.of(args[0]);
    if (!Files.exists(directory.resolve("config.json"))) {
      RandomModelFile.write(directory, args.length > 1 ? Integer.parseInt(args[1]) : LAYERS);
    }
    long bytes = bytes(directory);
    int rounds = args.length > 2 ? Integer.parseInt(args[2]) : ROUNDS;
    for (int round = 0; round < rounds; round++) {
      load(directory, bytes);
    }
  }

  /** In the order in which a node does it: copies that came first would warm the driver. */
  private static void load(Path directory, long bytes) {
    try (CudaBackend backend = new CudaBackend(0, (long) (0.97 * CudaProbe.freeMemory(0)))) {
      backend.prepareForWeights();
      double seconds = load(directory, backend);
      double limit = CudaLimits.uploadBandwidth(backend);
      System.out.printf(
          "%.2f GB in %.3f s: %.1f GB/s, %.0f %% of the %.1f GB/s of pinned copies%n",
          bytes / 1e9, seconds, bytes / seconds / 1e9, 100 * bytes / seconds / limit, limit / 1e9);
    }
  }

  private static double load(Path directory, CudaBackend backend) {
    try (Checkpoint checkpoint = Checkpoints.open(directory)) {
      requireRoom(checkpoint, backend);
      long start = System.nanoTime();
      TransformerLoader.load(checkpoint, backend);
      return (System.nanoTime() - start) / 1e9;
    }
  }

  /** As a node does before it loads. */
  private static void requireRoom(Checkpoint checkpoint, CudaBackend backend) {
    long bytes = ParameterMemory.bytes(checkpoint.spec(), MULTIPLE);
    if (bytes > backend.freeMemory().orElseThrow()) {
      throw new IllegalArgumentException(
          checkpoint.describe() + " has more than " + backend.describe());
    }
  }

  private static long bytes(Path directory) throws IOException {
    try (Stream<Path> files = Files.list(directory)) {
      List<Path> weights = files.filter(file -> file.toString().endsWith(".safetensors")).toList();
      long sum = 0;
      for (Path file : weights) {
        sum += Files.size(file);
      }
      return sum;
    }
  }
}
