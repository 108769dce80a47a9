package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.Vec;
import io.infinilora.core.DType;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Weights in memory that was not zeroed: all that a kernel may read is written. */
@Tag("gpu")
class CudaWeightsTest {
  private static final long BUDGET = 1L << 30;
  private static final long EXPECTED = 8L << 20;
  private static final int IN = 13;

  /** Neither fills a multiple of 8 rows. */
  private static final List<Integer> OUTS = List.of(5, 9);

  private final Arena arena = Arena.ofShared(); // Threads of the uploader read it.
  private final SplittableRandom random = new SplittableRandom(5);

  @BeforeEach
  void needsGpu() {
    Gpu.require(BUDGET);
  }

  @AfterEach
  void free() {
    arena.close();
  }

  @ParameterizedTest
  @EnumSource(names = {"BF16", "F16", "F32"})
  void paddingOfWeightsIsZero(DType dtype) {
    try (CudaBackend backend = new CudaBackend(0, BUDGET)) {
      CudaDevice device = backend.device();
      backend.expectWeights(EXPECTED);
      CudaProjection first =
          (CudaProjection) backend.projection(List.of(matrix(dtype, 8, 8)), none(1));
      MemorySegment garbage = arena.allocate(EXPECTED - 256);
      garbage.fill((byte) 0xFF);
      device.upload(garbage, first.weights() + 256);
      long end = first.weights() + EXPECTED;

      List<WeightMatrix> stacked =
          List.of(matrix(dtype, OUTS.get(0), IN), matrix(dtype, IN, OUTS.get(1)).transposed());
      CudaProjection projection = (CudaProjection) backend.projection(stacked, none(2));
      check(device, projection.weights(), projection.shape(), List.of(stacked));
      assertThat(projection.weights()).isBetween(first.weights() + 256, end);

      WeightMatrix table = matrix(dtype, 21, IN);
      CudaEmbedding embedding = (CudaEmbedding) backend.embedding(table.tensor());
      check(device, embedding.address(), embedding.shape(), List.of(List.of(table)));
      assertThat(embedding.address()).isBetween(first.weights() + 256, end);

      List<List<WeightMatrix>> experts =
          List.of(
              List.of(matrix(dtype, OUTS.get(0), IN), matrix(dtype, OUTS.get(1), IN)),
              stacked,
              List.of(matrix(dtype, OUTS.get(0), IN), matrix(dtype, OUTS.get(1), IN)));
      CudaExpertProjection all =
          (CudaExpertProjection)
              backend.expertProjection(experts, List.of(none(2), none(2), none(2)));
      check(device, all.weights(), all.shape(), experts);
      assertThat(all.weights()).isBetween(first.weights() + 256, end);
    }
  }

  private void check(
      CudaDevice device, long address, StackedOutputs shape, List<List<WeightMatrix>> experts) {
    MemorySegment actual = arena.allocate(experts.size() * shape.bytes());
    device.download(address, actual);
    MemorySegment expected = arena.allocate(actual.byteSize());
    long rowBytes = (long) Short.BYTES * shape.paddedIn();
    for (int e = 0; e < experts.size(); e++) {
      for (int i = 0; i < experts.get(e).size(); i++) {
        WeightMatrix matrix = experts.get(e).get(i);
        try (WeightRows rows = new WeightRows(matrix, shape.paddedIn())) {
          long at = e * shape.bytes() + rowBytes * shape.offset(i);
          rows.write(0, matrix.rows(), expected.asSlice(at, rowBytes * matrix.rows()));
        }
      }
    }
    assertThat(actual.mismatch(expected)).as("first byte that differs").isEqualTo(-1);
  }

  @Test
  void paddingOfBiasesIsZero() {
    try (CudaBackend backend = new CudaBackend(0, BUDGET)) {
      Vec bias = backend.vec(matrix(DType.F32, 1, OUTS.get(1)).tensor());
      CudaProjection projection =
          (CudaProjection)
              backend.projection(
                  List.of(matrix(DType.BF16, OUTS.get(0), IN), matrix(DType.BF16, 9, IN)),
                  Arrays.asList(null, bias));
      MemorySegment stacked = arena.allocate(4L * projection.shape().paddedOut(), 4);
      backend.device().download(projection.biases(), stacked);
      for (int i = 0; i < projection.shape().paddedOut(); i++) {
        boolean there = i >= 8 && i < 8 + OUTS.get(1);
        assertThat(stacked.getAtIndex(ValueLayout.JAVA_FLOAT, i) != 0).isEqualTo(there);
      }
    }
  }

  /** As when the model that would have been loaded is refused. */
  @Test
  void nothingIsLeftOfPreparations() throws InterruptedException {
    for (boolean prepared : new boolean[] {false, true}) {
      CudaBackend backend = new CudaBackend(0, BUDGET);
      backend.prepareForWeights();
      backend.prepareForWeights();
      if (prepared) {
        // Takes buffers, which come after what is prepared.
        backend.projection(List.of(matrix(DType.BF16, 16, IN)), none(1));
      }
      backend.close();
      requireNoThreads();
      assertThatThrownBy(backend::prepareForWeights).isInstanceOf(IllegalStateException.class);
    }
  }

  private static void requireNoThreads() throws InterruptedException {
    for (Thread thread : Thread.getAllStackTraces().keySet()) {
      if (thread.getName().startsWith("uploader-") || thread.getName().equals("weights-warm-up")) {
        assertThat(thread.join(Duration.ofSeconds(10))).as("%s ends", thread).isTrue();
      }
    }
  }

  @Test
  void matricesArriveWhilePreparationsGoOn() {
    try (CudaBackend backend = new CudaBackend(0, BUDGET)) {
      backend.prepareForWeights();
      backend.expectWeights(EXPECTED);
      for (int i = 0; i < 8; i++) {
        List<WeightMatrix> matrices = List.of(matrix(DType.BF16, 16, IN));
        CudaProjection projection = (CudaProjection) backend.projection(matrices, none(1));
        check(backend.device(), projection.weights(), projection.shape(), List.of(matrices));
      }
      assertThat(backend.vec(matrix(DType.F32, 1, IN).tensor()).size()).isEqualTo(IN);
    }
  }

  @Test
  void nothingIsLeftOfTheUploader() throws InterruptedException {
    CudaBackend backend = new CudaBackend(0, BUDGET);
    backend.expectWeights(EXPECTED);
    backend.close();
    requireNoThreads();
    assertThatThrownBy(() -> backend.expectWeights(EXPECTED))
        .isInstanceOf(IllegalStateException.class);
  }

  @Test
  void memoryOfNoBytesCanBeHad() {
    try (CudaDevice device = CudaDevice.open(0, BUDGET);
        DeviceMemory none = device.allocate(0, "test")) {
      assertThat(none.bytes()).isZero();
      assertThat(device.usedBytes()).isZero();
    }
  }

  private static List<Vec> none(int count) {
    return Arrays.asList(new Vec[count]);
  }

  /** Of numbers that are neither zero nor too large for any type. */
  private WeightMatrix matrix(DType dtype, int rows, int cols) {
    long elements = (long) rows * cols;
    MemorySegment data = arena.allocate(dtype.bytes(elements), 4);
    for (long i = 0; i < elements; i++) {
      float value = 1 + random.nextInt(128) / 128f;
      switch (dtype) {
        case F32 -> data.setAtIndex(ValueLayout.JAVA_FLOAT, i, value);
        case F16 -> data.setAtIndex(ValueLayout.JAVA_SHORT, i, Float.floatToFloat16(value));
        default -> data.setAtIndex(ValueLayout.JAVA_SHORT, i, Bf16Rows.round(value));
      }
    }
    return WeightMatrix.of(new TensorView("w", dtype, new long[] {rows, cols}, data, "this test"));
  }
}
