package io.infinilora.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import com.sun.management.ThreadMXBean;
import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.Backend;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.SampleRow;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.Activation;
import io.infinilora.core.DType;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;

/**
 * Compiled kernels keep their vectors in registers. One that C2 leaves as an object costs some
 * hundred bytes each time it is computed, megabytes per operator, and two thirds of the speed; it
 * shows in the bytes that the thread allocates, whatever else the machine does.
 */
class KernelAllocationTest {
  /** What an operator may allocate: its tasks and shapes, not one vector per row and panel. */
  private static final long MOST_BYTES = 16_384;

  /** Bounds the wait for the compiler; a kernel that boxes stays so for ever. */
  private static final Duration PATIENCE = Duration.ofMinutes(2);

  private static final ThreadMXBean THREADS = (ThreadMXBean) ManagementFactory.getThreadMXBean();

  private final Backend backend = new CpuBackend();

  /** One thread: the caller. */
  private final OpStream ops = backend.openStream("allocation", 1);

  private final TestData data = new TestData(5);

  @AfterEach
  void close() {
    ops.close();
    backend.close();
  }

  /** Runs {@code operator} until it is compiled and allocates little. */
  private static void settles(String what, Runnable operator) {
    long end = System.nanoTime() + PATIENCE.toNanos();
    long bytes;
    do {
      long before = THREADS.getCurrentThreadAllocatedBytes();
      for (int i = 0; i < 10; i++) {
        operator.run();
      }
      bytes = (THREADS.getCurrentThreadAllocatedBytes() - before) / 10;
    } while (bytes > MOST_BYTES && System.nanoTime() - end < 0);
    assertThat(bytes).as("bytes allocated by %s", what).isLessThanOrEqualTo(MOST_BYTES);
  }

  private Tensor tensor(int rows, int cols) {
    Tensor t = backend.tensor(rows, cols);
    ops.embed(backend.embedding(data.tensor(DType.F32, 1, cols)), new int[rows], t);
    return t;
  }

  @Test
  void projections() {
    int in = 1024;
    int out = 1024;
    for (DType dtype : EnumSet.complementOf(EnumSet.of(DType.U8))) {
      Projection weights =
          backend.projection(
              List.of(data.weights(dtype, out, in)), Collections.singletonList(null));
      for (int rows : new int[] {1, 2, 4, 8, 16, 64}) {
        Tensor x = tensor(rows, in);
        Tensor y = backend.tensor(rows, out);
        settles("project %s, %d rows".formatted(dtype, rows), () -> ops.project(weights, x, y));
      }
    }
  }

  @Test
  void rowsOfFrames() {
    int width = 4096;
    Tensor x = tensor(16, width);
    int[] rows = new int[16];
    Arrays.setAll(rows, i -> i);
    MemorySegment packed = Arena.ofAuto().allocate(2L * 16 * width);
    settles("packRows", () -> ops.packRows(x, rows, packed));
    settles("unpackRows", () -> ops.unpackRows(packed, x));
    settles("addRows", () -> ops.addRows(packed, rows, x));
  }

  @Test
  void lowRankProducts() {
    int width = 1024;
    for (DType dtype : new DType[] {DType.F32, DType.BF16, DType.F16}) {
      LoraWeights adapter =
          backend.loraWeights(
              List.of(
                  new LoraFactors(
                      WeightMatrix.of(data.tensor(dtype, 16, width)),
                      WeightMatrix.of(data.tensor(dtype, width, 16)),
                      2)));
      for (int rows : new int[] {1, 8, 64}) {
        Tensor x = tensor(rows, width);
        Tensor y = backend.tensor(rows, width);
        int[] order = new int[rows];
        Arrays.setAll(order, i -> i);
        RowGroups groups = new RowGroups(order, new int[] {0, rows});
        settles(
            "loraAdd %s, %d rows".formatted(dtype, rows),
            () -> ops.loraAdd(groups, List.of(adapter), x, y));
      }
      backend.free(adapter);
    }
  }

  @Test
  void lowRankProductsInPages() {
    // Wide enough that four rows of float32 are cut, and B has several pieces.
    int width = 5000;
    try (LoraMemory memory = backend.loraMemory(16 << 20)) {
      for (DType dtype : new DType[] {DType.F32, DType.BF16}) {
        LoraFactors pair =
            new LoraFactors(data.weights(dtype, 16, width), data.weights(dtype, width, 16), 2);
        LayerFactors factors =
            new LayerFactors(Map.of(LoraSite.ATTENTION_OUT, List.of(pair)), Map.of());
        LoraLayer layer;
        try (LoraImage image = backend.loraImage(factors)) {
          assertThat(image.pages()).isGreaterThan(4);
          layer = memory.load(image);
        }
        List<LoraWeights> adapter = List.of(layer.weights(LoraSite.ATTENTION_OUT));
        for (int rows : new int[] {1, 8, 64}) {
          Tensor x = tensor(rows, width);
          Tensor y = backend.tensor(rows, width);
          int[] order = new int[rows];
          Arrays.setAll(order, i -> i);
          RowGroups groups = new RowGroups(order, new int[] {0, rows});
          settles(
              "loraAdd in pages, %s, %d rows".formatted(dtype, rows),
              () -> ops.loraAdd(groups, adapter, x, y));
        }
        memory.free(layer);
      }
    }
  }

  @Test
  void expertTerms() {
    int width = 1024;
    int topK = 2;
    List<List<LoraFactors>> experts = new ArrayList<>();
    for (int e = 0; e < 4; e++) {
      experts.add(
          List.of(
              new LoraFactors(
                  data.weights(DType.BF16, 16, width), data.weights(DType.BF16, width, 16), 2)));
    }
    List<ExpertLoraWeights> adapter = List.of(backend.expertLoraWeights(experts));
    for (int rows : new int[] {1, 8, 64}) {
      Routing routing = backend.routing(rows, topK, 4);
      ops.route(tensor(rows, 4), new ModelSpec.Moe(4, topK, true, true, false, false), routing);
      Tensor x = tensor(rows * topK, width);
      Tensor terms = backend.tensor(rows * topK, width);
      Tensor y = backend.tensor(rows, width);
      int[] order = new int[rows];
      Arrays.setAll(order, i -> i);
      RowGroups groups = new RowGroups(order, new int[] {0, rows});
      settles(
          "expertLoraCombine, %d rows".formatted(rows),
          () -> ops.expertLoraCombine(groups, adapter, routing, x, y));
      settles(
          "expertLoraTerms, %d rows".formatted(rows),
          () -> ops.expertLoraTerms(groups, adapter, routing, x, terms));
      settles(
          "scatterAddTerms, %d rows".formatted(rows),
          () -> ops.scatterAddTerms(terms, topK, order, y));
    }
    backend.free(adapter.getFirst());
  }

  @Test
  void attention() {
    int heads = 8;
    int kvHeads = 2;
    int headDim = 64;
    int blocks = 32;
    KvCache cache = backend.kvCache(new KvLayout(1, blocks, 16, kvHeads, headDim));
    RopeTable rope = backend.ropeTable(RopeSpec.plain(10000), headDim);
    AttentionParams params = new AttentionParams(heads, kvHeads, headDim, 0.125f, 0, null);
    int[] table = new int[blocks];
    Arrays.setAll(table, i -> i);
    for (int rows : new int[] {512, 64, 8, 1}) {
      int[] positions = new int[rows];
      Arrays.setAll(positions, i -> 512 - rows + i);
      BatchLayout batch =
          new BatchLayout(
              new int[rows], positions, new int[] {0, rows}, new int[][] {table}, new int[0]);
      Tensor q = tensor(rows, heads * headDim);
      Tensor k = tensor(rows, kvHeads * headDim);
      Tensor v = tensor(rows, kvHeads * headDim);
      Tensor out = backend.tensor(rows, heads * headDim);
      settles(
          "ropeAndStore, %d rows".formatted(rows),
          () -> ops.ropeAndStore(batch, rope, q, k, v, cache, 0));
      settles(
          "attention, %d rows".formatted(rows),
          () -> ops.attention(batch, q, cache, 0, params, out));
    }
  }

  @Test
  void elementsAndSampling() {
    int width = 2048;
    for (int rows : new int[] {1, 8, 64}) {
      Tensor x = tensor(rows, width);
      Tensor y = tensor(rows, width);
      Tensor out = backend.tensor(rows, width);
      Vec weight = backend.vec(data.tensor(DType.F32, 1, width));
      settles("rmsNorm, %d rows".formatted(rows), () -> ops.rmsNorm(x, weight, 1e-5f, out));
      for (Activation activation : Activation.values()) {
        settles(
            "gatedActivation %s, %d rows".formatted(activation, rows),
            () -> ops.gatedActivation(activation, x, y, out));
      }
      settles("add, %d rows".formatted(rows), () -> ops.add(x, y));
    }
    Tensor logits = tensor(1, 32_000);
    SampleRow greedy = new SampleRow(SamplingParams.greedy(1), 0, new int[0], 0, 0);
    settles("sample", () -> ops.sample(logits, List.of(greedy)));
  }
}
