package io.infinilora.bench;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.Backend;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.SampleRow;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.core.Activation;
import io.infinilora.core.DType;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Locale;
import java.util.Random;

/**
 * Times the CPU operators with the shapes of SmolLM2-135M (Q4_1 blocks, Q8_0 head, random weights),
 * and those of a mixture of experts, each beside the limit that it runs against. Arguments: threads
 * (default: all processors), seconds per figure (default 2), {@code experts} for the mixture only.
 */
public final class KernelBench {
  private static final int HIDDEN = 576;
  private static final int INTER = 1536;
  private static final int HEADS = 9;
  private static final int KV_HEADS = 3;
  private static final int HEAD_DIM = 64;
  private static final int KV = KV_HEADS * HEAD_DIM;
  private static final int VOCAB = 49152;
  private static final int LAYERS = 30;
  private static final int LANES_FLOPS_PER_CYCLE = 32;

  private record Layer(Projection qkv, Projection o, Projection gateUp, Projection down) {
    long bytes() {
      return qkv.bytes() + o.bytes() + gateUp.bytes() + down.bytes();
    }
  }

  private final Backend backend = new CpuBackend();
  private final Random random = new Random(1);
  private final OpStream ops;
  private final int threads;
  private final double seconds;
  private final List<Layer> layers = new ArrayList<>();
  private final Projection head;
  private double best;
  private final double bandwidth;
  private final double flops;

  private KernelBench(int threads, double seconds) throws InterruptedException {
    this.threads = threads;
    this.seconds = seconds;
    ops = backend.openStream("bench", threads);
    bandwidth = MachineLimits.readBandwidth(threads);
    double frequency = MachineLimits.frequency();
    flops = threads * frequency * LANES_FLOPS_PER_CYCLE;
    System.out.printf(
        Locale.ROOT,
        "%s, %d threads%nlimits: read %.1f GB/s, %.2f GHz, %.0f GFLOP/s (one 512-bit FMA a cycle)%n",
        backend.describe(),
        threads,
        bandwidth / 1e9,
        frequency / 1e9,
        flops / 1e9);
    for (int l = 0; l < LAYERS; l++) {
      layers.add(
          new Layer(
              projection(DType.Q4_1, HIDDEN, HIDDEN, KV, KV),
              projection(DType.Q4_1, HIDDEN, HIDDEN),
              projection(DType.Q4_1, HIDDEN, INTER, INTER),
              projection(DType.Q4_1, INTER, HIDDEN)));
    }
    head = projection(DType.Q8_0, HIDDEN, VOCAB);
  }

  /** Runs everything. */
  public static void main(String[] args) throws InterruptedException {
    int threads =
        args.length > 0 ? Integer.parseInt(args[0]) : Runtime.getRuntime().availableProcessors();
    double seconds = args.length > 1 ? Double.parseDouble(args[1]) : 2;
    KernelBench bench = new KernelBench(threads, seconds);
    if (args.length < 3) {
      bench.dense();
    }
    bench.experts();
    bench.ops.close();
    bench.backend.close();
  }

  private void dense() {
    projections(1);
    projections(2);
    projections(4);
    projections(8);
    projections(512);
    head(1);
    head(8);
    attention(512, 512);
    attention(1, 512);
    attention(1, 4096);
    elements(1);
    elements(512);
    lora(8, 1, DType.BF16);
    lora(8, 1, DType.F32);
    lora(1, 512, DType.F32);
    sampling();
  }

  private void experts() {
    ExpertCases experts = new ExpertCases(this);
    experts.projections(DType.MXFP4, 1, 8, 512);
    experts.projections(DType.Q4_1, 1, 8, 512);
    experts.lora(8, 1, DType.BF16);
    experts.lora(1, 512, DType.BF16);
    experts.routing(512);
  }

  Backend backend() {
    return backend;
  }

  OpStream ops() {
    return ops;
  }

  private void projections(int rows) {
    Tensor x = filled(rows, HIDDEN);
    Tensor q = backend.tensor(rows, HIDDEN);
    Tensor k = backend.tensor(rows, KV);
    Tensor v = backend.tensor(rows, KV);
    Tensor gate = backend.tensor(rows, INTER);
    Tensor up = backend.tensor(rows, INTER);
    Tensor mid = filled(rows, INTER);
    Tensor out = backend.tensor(rows, HIDDEN);
    double time =
        median(
            () -> {
              for (Layer l : layers) {
                ops.project(l.qkv, x, q, k, v);
                ops.project(l.o, x, out);
                ops.project(l.gateUp, x, gate, up);
                ops.project(l.down, mid, out);
              }
            });
    long bytes = layers.stream().mapToLong(Layer::bytes).sum();
    double work = 2.0 * LAYERS * rows * HIDDEN * (2.0 * HIDDEN + 2 * KV + 3 * INTER);
    report("projections of 30 layers, " + rows + " rows", time, bytes, work);
  }

  private void head(int rows) {
    Tensor x = filled(rows, HIDDEN);
    Tensor logits = backend.tensor(rows, VOCAB);
    double time = median(() -> ops.project(head, x, logits));
    report("head, " + rows + " rows", time, head.bytes(), 2.0 * rows * HIDDEN * VOCAB);
  }

  private void attention(int rows, int context) {
    int blockSize = 16;
    int blocks = Math.ceilDiv(context, blockSize);
    KvCache cache = backend.kvCache(new KvLayout(LAYERS, blocks, blockSize, KV_HEADS, HEAD_DIM));
    RopeTable rope = backend.ropeTable(RopeSpec.plain(10000), HEAD_DIM);
    int[] table = new int[blocks];
    Arrays.setAll(table, i -> i);
    int[] positions = new int[rows];
    Arrays.setAll(positions, i -> context - rows + i);
    BatchLayout batch =
        new BatchLayout(
            new int[rows], positions, new int[] {0, rows}, new int[][] {table}, new int[0]);
    Tensor q = filled(rows, HIDDEN);
    Tensor k = filled(rows, KV);
    Tensor v = filled(rows, KV);
    Tensor out = backend.tensor(rows, HIDDEN);
    AttentionParams params = new AttentionParams(HEADS, KV_HEADS, HEAD_DIM, 0.125f, 0, null);
    String what = rows + " rows at context " + context;
    double stored =
        median(
            () -> {
              for (int l = 0; l < LAYERS; l++) {
                ops.ropeAndStore(batch, rope, q, k, v, cache, l);
              }
            });
    report("rope and store of 30 layers, " + what, stored, 0, 0);
    double time =
        median(
            () -> {
              for (int l = 0; l < LAYERS; l++) {
                ops.attention(batch, q, cache, l, params, out);
              }
            });
    double pairs = rows * (context - (rows - 1) / 2.0);

    report(
        "attention of 30 layers, " + what,
        time,
        cache.bytesPerBlock() * blocks,
        4.0 * LAYERS * pairs * HIDDEN);
  }

  private void elements(int rows) {
    Tensor x = filled(rows, HIDDEN);
    Tensor y = filled(rows, HIDDEN);
    Tensor gate = filled(rows, INTER);
    Tensor up = filled(rows, INTER);
    Vec weight = backend.vec(random(DType.F32, 1, HIDDEN));
    double time =
        median(
            () -> {
              for (int l = 0; l < LAYERS; l++) {
                ops.rmsNorm(x, weight, 1e-5f, y);
                ops.gatedActivation(Activation.SWIGLU, gate, up, gate);
                ops.rmsNorm(x, weight, 1e-5f, y);
                ops.add(y, x);
                ops.add(y, x);
              }
            });
    report("norms, activations and sums of 30 layers, " + rows + " rows", time, 0, 0);
  }

  private void lora(int groups, int rowsPerGroup, DType dtype) {
    int rank = 16;
    int rows = groups * rowsPerGroup;
    int[][] sites = {
      {HIDDEN, HIDDEN, KV, KV}, {HIDDEN, HIDDEN}, {HIDDEN, INTER, INTER}, {INTER, HIDDEN}
    };
    int[] order = new int[rows];
    Arrays.setAll(order, i -> i);
    int[] starts = new int[groups + 1];
    Arrays.setAll(starts, i -> i * rowsPerGroup);
    RowGroups mix = new RowGroups(order, starts);
    List<List<LoraWeights>> weights = new ArrayList<>();
    List<Tensor> inputs = new ArrayList<>();
    List<Tensor[]> outputs = new ArrayList<>();
    long bytes = 0;
    double work = 0;
    for (int l = 0; l < LAYERS; l++) {
      for (int[] site : sites) {
        List<LoraWeights> adapters = new ArrayList<>();
        for (int g = 0; g < groups; g++) {
          List<LoraFactors> targets = new ArrayList<>();
          for (int t = 1; t < site.length; t++) {
            targets.add(
                new LoraFactors(
                    WeightMatrix.of(random(dtype, rank, site[0])),
                    WeightMatrix.of(random(dtype, site[t], rank)),
                    1));
            work += 2.0 * rank * rowsPerGroup * (site[0] + site[t]);
          }
          LoraWeights w = backend.loraWeights(targets);
          bytes += w.bytes();
          adapters.add(w);
        }
        weights.add(adapters);
        if (l == 0) {
          inputs.add(filled(rows, site[0]));
          Tensor[] outs = new Tensor[site.length - 1];
          Arrays.setAll(outs, t -> backend.tensor(rows, site[t + 1]));
          outputs.add(outs);
        }
      }
    }
    double time =
        median(
            () -> {
              for (int i = 0; i < weights.size(); i++) {
                ops.loraAdd(mix, weights.get(i), inputs.get(i % 4), outputs.get(i % 4));
              }
            });
    report(
        "LoRA of 30 layers, rank 16, %s, %d adapters of %d rows"
            .formatted(dtype, groups, rowsPerGroup),
        time,
        bytes,
        work);
    weights.forEach(site -> site.forEach(backend::free));
  }

  private void sampling() {
    Tensor logits = filled(1, VOCAB);
    SamplingParams greedy = SamplingParams.greedy(1);
    SamplingParams nucleus =
        new SamplingParams(
            0.8, 0.95, 50, 0, 1, 0, 0, 1, java.util.Map.of(), List.of(), 1, false, -1);
    for (SamplingParams p : List.of(greedy, nucleus)) {
      SampleRow row = new SampleRow(p, 0, new int[0], 0, 0);
      double time = median(() -> ops.sample(logits, List.of(row)));
      report("sampling " + (p.isGreedy() ? "greedy" : "top-k 50"), time, 0, 0);
    }
  }

  double median(Runnable body) {
    long warm = System.nanoTime() + (long) (seconds * 1e9);
    while (System.nanoTime() < warm) {
      body.run();
    }
    List<Long> times = new ArrayList<>();
    long end = System.nanoTime() + (long) (seconds * 1e9);
    while (System.nanoTime() < end || times.size() < 5) {
      long start = System.nanoTime();
      body.run();
      times.add(System.nanoTime() - start);
    }
    Collections.sort(times);
    best = times.getFirst() / 1e9;
    return times.get(times.size() / 2) / 1e9;
  }

  void report(String what, double time, double bytes, double work) {
    StringBuilder line = new StringBuilder();
    line.append(
        String.format(Locale.ROOT, "%-62s %9.3f ms, best %9.3f", what, time * 1e3, best * 1e3));
    if (bytes > 0) {
      line.append(
          String.format(
              Locale.ROOT,
              "  %6.1f GB/s = %3.0f %%",
              bytes / best / 1e9,
              100 * bytes / best / bandwidth));
    }
    if (work > 0) {
      line.append(
          String.format(
              Locale.ROOT,
              "  %6.1f GFLOP/s = %3.0f %%",
              work / best / 1e9,
              100 * work / best / flops));
    }
    System.out.println(line);
  }

  private Projection projection(DType dtype, int in, int... outs) {
    List<WeightMatrix> weights = new ArrayList<>();
    List<Vec> biases = new ArrayList<>();
    for (int out : outs) {
      weights.add(WeightMatrix.of(random(dtype, out, in)));
      biases.add(null);
    }
    return backend.projection(weights, biases);
  }

  Tensor filled(int rows, int cols) {
    Tensor t = backend.tensor(rows, cols);
    ops.embed(backend.embedding(random(DType.F32, 1, cols)), new int[rows], t);
    return t;
  }

  /** A tensor with these values. */
  Tensor tensor(float[][] values) {
    int cols = values[0].length;
    MemorySegment segment = MemorySegment.ofArray(new byte[4 * values.length * cols]);
    int[] rows = new int[values.length];
    for (int r = 0; r < values.length; r++) {
      rows[r] = r;
      for (int c = 0; c < cols; c++) {
        segment.set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4L * (r * cols + c), values[r][c]);
      }
    }
    TensorView view =
        new TensorView("values", DType.F32, new long[] {values.length, cols}, segment, "memory");
    Tensor t = backend.tensor(values.length, cols);
    ops.embed(backend.embedding(view), rows, t);
    return t;
  }

  /** Random weights of about 0.1. */
  TensorView random(DType dtype, int rows, int cols) {
    byte[] bytes = new byte[Math.toIntExact(rows * dtype.bytes(cols))];
    random.nextBytes(bytes);
    MemorySegment data = MemorySegment.ofArray(bytes);
    for (int at = 0; at < bytes.length; at += dtype.blockBytes()) {
      float value = (float) (random.nextGaussian() * 0.1);
      int bits = Float.floatToRawIntBits(value);
      switch (dtype) {
        case F32 -> data.set(ValueLayout.JAVA_FLOAT_UNALIGNED, at, value);
        case BF16 -> data.set(ValueLayout.JAVA_SHORT_UNALIGNED, at, (short) (bits >> 16));
        case Q4_1 -> {
          data.set(ValueLayout.JAVA_SHORT_UNALIGNED, at, Float.floatToFloat16(0.02f));
          data.set(ValueLayout.JAVA_SHORT_UNALIGNED, at + 2, Float.floatToFloat16(-0.15f));
        }
        case MXFP4 -> data.set(ValueLayout.JAVA_BYTE, at, (byte) 121);
        case Q8_0 -> data.set(ValueLayout.JAVA_SHORT_UNALIGNED, at, Float.floatToFloat16(0.001f));
        default -> throw new IllegalArgumentException(dtype + " is not benchmarked");
      }
    }
    return new TensorView("random", dtype, new long[] {rows, cols}, data, "memory");
  }
}
