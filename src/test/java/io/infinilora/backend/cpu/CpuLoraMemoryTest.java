package io.infinilora.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.LoraImage;
import io.infinilora.backend.LoraLayer;
import io.infinilora.backend.LoraMemory;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.reference.ReferenceWeights;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.DType;
import io.infinilora.core.LayerFactors;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.LoraSite;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicIntegerArray;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;

class CpuLoraMemoryTest {
  private static final long CHUNK = 16 << 20;

  private final CpuBackend backend = new CpuBackend();
  private final TestData data = new TestData(7);

  @AfterEach
  void close() {
    backend.close();
  }

  private static LayerFactors layer(LoraFactors pair) {
    return new LayerFactors(Map.of(LoraSite.ATTENTION_OUT, List.of(pair)), Map.of());
  }

  private LoraFactors pair(DType dtype, int rank, int in, int out) {
    return new LoraFactors(data.weights(dtype, rank, in), data.weights(dtype, out, rank), 1.7f);
  }

  @Test
  void theBudgetIsAllocatedWhenItIsNeeded() {
    // 4 MiB of A, and as much of B.
    try (CpuLoraMemory memory = new CpuLoraMemory(backend, 2 * CHUNK + CHUNK / 2);
        LoraImage image = backend.loraImage(layer(pair(DType.F32, 256, 4096, 4096)))) {
      assertThat(memory.allocated()).isZero();
      List<LoraLayer> layers = new ArrayList<>();
      for (long expected : new long[] {1, 1, 2, 2}) {
        layers.add(memory.load(image));
        assertThat(memory.allocated()).isEqualTo(expected * CHUNK);
      }
      memory.free(layers.removeFirst());
      layers.add(memory.load(image));
      assertThat(memory.allocated()).isEqualTo(2 * CHUNK);
      layers.add(memory.load(image));
      assertThat(memory.allocated()).isEqualTo(2 * CHUNK + CHUNK / 2);
    }
  }

  @Test
  void noPageIsGivenTwiceWhileThreadsLoadAndFree() throws Exception {
    List<LoraImage> images = new ArrayList<>();
    // Small ones, so that threads spend their time counting pages rather than copying them.
    for (int rank : new int[] {1, 4, 140}) {
      images.add(backend.loraImage(layer(pair(DType.F32, rank, 64, 64))));
    }
    AtomicIntegerArray holders = new AtomicIntegerArray((int) (CHUNK / LoraLayout.PAGE_BYTES));
    AtomicInteger clashes = new AtomicInteger();
    try (LoraMemory memory = backend.loraMemory(CHUNK);
        ExecutorService threads = Executors.newFixedThreadPool(3)) {
      List<Future<?>> work = new ArrayList<>();
      for (int t = 0; t < 3; t++) {
        Random random = new Random(t);
        work.add(
            threads.submit(
                () -> {
                  for (int i = 0; i < 40_000; i++) {
                    LoraImage image = images.get(random.nextInt(images.size()));
                    CpuLoraLayer layer = (CpuLoraLayer) memory.load(image);
                    for (int page : layer.numbers()) {
                      if (holders.incrementAndGet(page) != 1) {
                        clashes.incrementAndGet();
                      }
                    }
                    for (int page : layer.numbers()) {
                      holders.decrementAndGet(page);
                    }
                    memory.free(layer);
                  }
                }));
      }
      for (Future<?> w : work) {
        w.get();
      }
      assertThat(clashes).hasValue(0);
      assertThat(memory.freePages()).isEqualTo(memory.pages());
    }
    images.forEach(LoraImage::close);
  }

  /** Where matrices are cut makes no difference, bit for bit. */
  @ParameterizedTest
  @CsvSource({
    "F32, 7, 45, 300",
    "F32, 16, 576, 1536",
    "F32, 9, 6000, 40",
    "F32, 512, 100, 70",
    "BF16, 64, 2048, 768",
    "BF16, 5, 9000, 33",
    "F16, 130, 700, 100"
  })
  void productsAreTheChainsOfTheirElements(DType dtype, int rank, int in, int out) {
    LoraFactors pair = pair(dtype, rank, in, out);
    double[][] a = ReferenceWeights.decode(pair.a());
    double[][] b = ReferenceWeights.decode(pair.b());
    double[][] values = data.matrix(3, in, 1);
    try (LoraMemory memory = backend.loraMemory(CHUNK);
        LoraImage image = backend.loraImage(layer(pair));
        OpStream ops = backend.openStream("test", 1)) {
      LoraLayer layer = memory.load(image);
      Tensor x = backend.tensor(3, in);
      int[] rows = {0, 1, 2};
      ops.embed(backend.embedding(TestData.f32(values)), rows, x);
      Tensor y = backend.tensor(3, out);
      ops.loraAdd(
          new RowGroups(rows, new int[] {0, 3}),
          List.of(layer.weights(LoraSite.ATTENTION_OUT)),
          x,
          y);
      for (int r = 0; r < 3; r++) {
        float[] low = new float[rank];
        for (int i = 0; i < rank; i++) {
          low[i] = lanewise(values[r], a[i]);
        }
        float[] expected = new float[out];
        for (int o = 0; o < out; o++) {
          float sum = 0;
          for (int i = 0; i < rank; i++) {
            sum = Math.fma(low[i], (float) b[o][i], sum);
          }
          expected[o] += 1.7f * sum;
        }
        float[] actual = new float[out];
        ops.read(y, r, actual);
        assertThat(actual).isEqualTo(expected);
      }
    }
  }

  /** One chain per lane, then the sum of the lanes in order. */
  private static float lanewise(double[] x, double[] a) {
    float[] lanes = new float[Memory.LANES];
    for (int k = 0; k < x.length; k++) {
      int lane = k % Memory.LANES;
      lanes[lane] = Math.fma((float) x[k], (float) a[k], lanes[lane]);
    }
    float sum = 0;
    for (float lane : lanes) {
      sum += lane;
    }
    return sum;
  }

  /** A tensor that can be measured, but not read. */
  private static WeightMatrix unreadable(DType dtype, int rows, int cols, long[] next) {
    long bytes = dtype.bytes((long) rows * cols);
    MemorySegment data = MemorySegment.ofAddress(next[0]).reinterpret(bytes);
    next[0] += bytes;
    return WeightMatrix.of(new TensorView("w", dtype, new long[] {rows, cols}, data, "test data"));
  }

  private static LoraFactors unreadable(DType dtype, int rank, int in, int out, long[] next) {
    return new LoraFactors(
        unreadable(dtype, rank, in, next), unreadable(dtype, out, rank, next), 1);
  }

  /** Shapes of a layer; no experts for a dense one. */
  private enum Shape {
    SMOLLM2(576, 576, 192, 1536, 0),
    MIXTRAL(4096, 4096, 1024, 14336, 8),
    QWEN3_30B_A3B(2048, 4096, 512, 768, 128);

    private final int hidden;
    private final int q;
    private final int kv;
    private final int inner;
    private final int experts;

    Shape(int hidden, int q, int kv, int inner, int experts) {
      this.hidden = hidden;
      this.q = q;
      this.kv = kv;
      this.inner = inner;
      this.experts = experts;
    }

    LayerFactors layer(DType dtype, int rank) {
      long[] next = {1};
      List<LoraFactors> attention =
          List.of(
              unreadable(dtype, rank, hidden, q, next),
              unreadable(dtype, rank, hidden, kv, next),
              unreadable(dtype, rank, hidden, kv, next));
      List<LoraFactors> output = List.of(unreadable(dtype, rank, q, hidden, next));
      List<List<LoraFactors>> up = new ArrayList<>();
      List<List<LoraFactors>> down = new ArrayList<>();
      for (int e = 0; e < Math.max(1, experts); e++) {
        up.add(
            List.of(
                unreadable(dtype, rank, hidden, inner, next),
                unreadable(dtype, rank, hidden, inner, next)));
        down.add(List.of(unreadable(dtype, rank, inner, hidden, next)));
      }
      return experts == 0
          ? new LayerFactors(
              Map.of(
                  LoraSite.ATTENTION_IN,
                  attention,
                  LoraSite.ATTENTION_OUT,
                  output,
                  LoraSite.MLP_IN,
                  up.getFirst(),
                  LoraSite.MLP_OUT,
                  down.getFirst()),
              Map.of())
          : new LayerFactors(
              Map.of(LoraSite.ATTENTION_IN, attention, LoraSite.ATTENTION_OUT, output),
              Map.of(LoraSite.MLP_IN, up, LoraSite.MLP_OUT, down));
    }
  }

  @ParameterizedTest
  @EnumSource
  void pagesWasteLittleMoreThanTheRestOfTheLast(Shape shape) {
    for (int rank : new int[] {8, 16, 32, 64}) {
      for (DType dtype : new DType[] {DType.BF16, DType.F32}) {
        LayerFactors factors = shape.layer(dtype, rank);
        LoraLayout layout = CpuLoraImage.layout(factors, new HashMap<>(), new HashMap<>());
        assertThat(backend.loraPages(factors)).isEqualTo(layout.pages());
        long whole = (long) layout.pages() * LoraLayout.PAGE_BYTES;
        long rest = whole - layout.extent();
        assertThat(rest).isBetween(0L, LoraLayout.PAGE_BYTES - 1L);
        assertThat(layout.extent() - layout.bytes())
            .as("bytes between pieces, rank %d, %s", rank, dtype)
            .isLessThanOrEqualTo(whole / 200);
      }
    }
  }
}
