package io.infinilora.backend.cuda;

import io.infinilora.backend.Embedding;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.Projection;
import io.infinilora.backend.Vec;
import io.infinilora.core.DType;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Collections;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;

/** Brings a model's parameters to the device. Thread-safe; creators block until all has arrived. */
final class CudaWeights implements AutoCloseable {
  private static final String WEIGHTS = "weights";

  /** The smallest. */
  private static final StackedOutputs WARM_UP = new StackedOutputs(8, List.of(8));

  private final CudaBackend owner;
  private final CudaDevice device;
  private final WeightUploader uploader;
  private final FiniteWeights finite;
  private final DeviceSlabs vectors;
  private final WeightMemory matrices;

  /** Null before there is one; guarded by this. */
  private CompletableFuture<Void> warmUp;

  CudaWeights(CudaBackend owner, CudaDevice device) {
    this.owner = owner;
    this.device = device;
    uploader = new WeightUploader(device);
    finite = new FiniteWeights(device);
    vectors = new DeviceSlabs(bytes -> device.allocate(bytes, WEIGHTS).address());
    matrices = new WeightMemory(bytes -> device.allocateUnset(bytes, WEIGHTS).address());
  }

  /** See {@link io.infinilora.backend.Backend#prepareForWeights}. */
  synchronized void prepare() {
    uploader.prepare();
    if (warmUp == null) {
      long address = device.allocateUnset(WARM_UP.bytes(), WEIGHTS).address();
      warmUp =
          CompletableFuture.runAsync(
              () -> warmUp(address), Thread.ofPlatform().daemon().name("weights-warm-up")::start);
    }
  }

  /**
   * Brings a matrix that nobody needs to the device. Classes, a kernel and the driver's own
   * beginnings take tens of milliseconds the first time, which need not be the first layer's.
   */
  private void warmUp(long address) {
    try (Arena arena = Arena.ofShared()) {
      MemorySegment data = arena.allocate(WARM_UP.bytes());
      long[] size = {WARM_UP.paddedOut(), WARM_UP.in()};
      TensorView tensor = new TensorView("warm-up", DType.BF16, size, data, "memory");
      List<WeightMatrix> matrices = List.of(WeightMatrix.of(tensor));
      device.zero(address, data.byteSize());
      projection(matrices, Collections.singletonList(null), shape(matrices), address);
      uploader.floats(tensor.sliceRows(0, 1), address);
    } catch (RuntimeException e) {
      // The first that is needed fails likewise, and somebody waits for it.
    }
  }

  /** See {@link io.infinilora.backend.Backend#expectWeights}. */
  void expect(long bytes) {
    uploader.prepare();
    matrices.expect(bytes);
  }

  /** Memory for a projection's weights, or for those of experts; zero where none will be copied. */
  private long allocate(StackedOutputs shape, int experts) {
    long address = matrices.allocate(experts * shape.bytes());
    if (shape.outs().stream().mapToInt(Integer::intValue).sum() < shape.paddedOut()) {
      device.zero(address, experts * shape.bytes());
    }
    return address;
  }

  CudaVec vec(TensorView view) {
    int size = Math.toIntExact(view.elements());
    long address = vectors.allocate((long) Float.BYTES * CudaTensor.padded(size));
    uploader.floats(view, address);
    return new CudaVec(owner, address, size);
  }

  Embedding embedding(TensorView table) {
    List<WeightMatrix> matrices = List.of(WeightMatrix.of(table));
    StackedOutputs shape = shape(matrices);
    long address = allocate(shape, 1);
    try (WeightUploader.Upload upload = uploader.begin()) {
      add(matrices, shape, address, upload);
      upload.await();
      finite.require(List.of(matrices), shape, address);
    }
    return new CudaEmbedding(owner, shape, address);
  }

  Projection projection(List<WeightMatrix> matrices, List<Vec> biases) {
    if (matrices.isEmpty() || matrices.size() != biases.size()) {
      throw new IllegalArgumentException(
          matrices.size() + " matrices with " + biases.size() + " biases");
    }
    StackedOutputs shape = shape(matrices);
    for (int i = 0; i < matrices.size(); i++) {
      WeightMatrix w = matrices.get(i);
      if (w.cols() != shape.in()) {
        throw new IllegalArgumentException(
            w.tensor() + " does not share the input of " + matrices.getFirst().tensor());
      }
      if (biases.get(i) != null && biases.get(i).size() != w.rows()) {
        throw new IllegalArgumentException(
            "bias of " + biases.get(i).size() + " for " + w.tensor());
      }
    }
    return projection(matrices, biases, shape, allocate(shape, 1));
  }

  private Projection projection(
      List<WeightMatrix> matrices, List<Vec> biases, StackedOutputs shape, long weights) {
    try (WeightUploader.Upload upload = uploader.begin()) {
      add(matrices, shape, weights, upload);
      long stacked = stack(List.of(biases), shape, upload);
      upload.await();
      finite.require(List.of(matrices), shape, weights);
      return new CudaProjection(owner, shape, weights, stacked);
    }
  }

  private static StackedOutputs shape(List<WeightMatrix> matrices) {
    return new StackedOutputs(
        matrices.getFirst().cols(), matrices.stream().map(WeightMatrix::rows).toList());
  }

  private static void add(
      List<WeightMatrix> matrices,
      StackedOutputs shape,
      long weights,
      WeightUploader.Upload upload) {
    for (int i = 0; i < matrices.size(); i++) {
      long row = (long) Short.BYTES * shape.paddedIn();
      upload.matrix(matrices.get(i), weights + row * shape.offset(i), shape.paddedIn());
    }
  }

  /** Biases of each expert in the order of the weights' rows; 0 if there are none. */
  private long stack(List<List<Vec>> biases, StackedOutputs shape, WeightUploader.Upload upload) {
    if (biases.stream().flatMap(List::stream).allMatch(Objects::isNull)) {
      return 0;
    }
    long expertBytes = (long) Float.BYTES * shape.paddedOut();
    long address = device.allocate(expertBytes * biases.size(), WEIGHTS).address();
    for (int e = 0; e < biases.size(); e++) {
      for (int i = 0; i < biases.get(e).size(); i++) {
        if (biases.get(e).get(i) instanceof CudaVec bias) {
          upload.copy(
              bias.address(),
              address + e * expertBytes + (long) Float.BYTES * shape.offset(i),
              (long) Float.BYTES * bias.size());
        }
      }
    }
    return address;
  }

  ExpertProjection expertProjection(List<List<WeightMatrix>> experts, List<List<Vec>> biases) {
    if (experts.isEmpty() || experts.size() != biases.size()) {
      throw new IllegalArgumentException(
          experts.size() + " experts with biases of " + biases.size());
    }
    StackedOutputs shape = shape(experts.getFirst());
    for (int e = 0; e < experts.size(); e++) {
      check(e, experts.get(e), biases.get(e), experts.getFirst());
    }
    long weights = allocate(shape, experts.size());
    try (WeightUploader.Upload upload = uploader.begin()) {
      for (int e = 0; e < experts.size(); e++) {
        add(experts.get(e), shape, weights + e * shape.bytes(), upload);
      }
      long stacked = stack(biases, shape, upload);
      upload.await();
      finite.require(experts, shape, weights);
      return new CudaExpertProjection(owner, experts.size(), shape, weights, stacked);
    }
  }

  private static void check(
      int expert, List<WeightMatrix> matrices, List<Vec> biases, List<WeightMatrix> first) {
    if (matrices.size() != first.size() || biases.size() != first.size()) {
      throw new IllegalArgumentException(
          "expert %d has %d matrices and %d biases, not %d"
              .formatted(expert, matrices.size(), biases.size(), first.size()));
    }
    for (int i = 0; i < first.size(); i++) {
      WeightMatrix w = matrices.get(i);
      if (w.rows() != first.get(i).rows() || w.cols() != first.getFirst().cols()) {
        throw new IllegalArgumentException(
            "expert %d: %s is not like that of expert 0, %s".formatted(expert, w, first.get(i)));
      }
      if (biases.get(i) != null && biases.get(i).size() != w.rows()) {
        throw new IllegalArgumentException(
            "expert %d has a bias of %d for %s".formatted(expert, biases.get(i).size(), w));
      }
    }
  }

  private synchronized void awaitWarmUp() {
    if (warmUp != null) {
      warmUp.join();
    }
  }

  /** Frees what loading needed; the weights go with the device. */
  @Override
  public void close() {
    awaitWarmUp();
    try {
      uploader.close();
    } finally {
      finite.close();
    }
  }
}
