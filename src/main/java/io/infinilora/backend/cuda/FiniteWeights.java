package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.JAVA_LONG;

import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.List;
import jcuda.Pointer;
import jcuda.driver.JCudaDriver;

/**
 * Refuses weights that are NaN or infinite. Those of other types are looked at where they are
 * converted; bf16 is copied as it is, and looked at on the device, which reads it many times faster
 * than a processor does. Thread-safe.
 *
 * <p>Bytes that must move: the weights once, on the device.
 */
final class FiniteWeights implements AutoCloseable {
  // As finite.cu has it.
  private static final int THREADS = 512;
  private static final int BLOCKS_PER_MULTIPROCESSOR = 4;
  private static final long NONE = -1;

  private final CudaDevice device;
  private Kernel kernel;
  private DeviceMemory first;

  FiniteWeights(CudaDevice device) {
    this.device = device;
  }

  /**
   * Looks at stacked matrices that have arrived; again for each expert, if there are several.
   *
   * @param address of {@code experts.size()} times {@code shape.bytes()}
   * @throws InfiniLoraException BAD_MODEL_FILE naming the tensor and the place of the first element
   *     that is not finite
   */
  void require(List<List<WeightMatrix>> experts, StackedOutputs shape, long address) {
    if (experts.stream().flatMap(List::stream).anyMatch(FiniteWeights::unseen)) {
      long index = first(address, experts.size() * (shape.bytes() / Short.BYTES));
      if (index != NONE) {
        throw fault(experts, shape, index);
      }
    }
  }

  private static boolean unseen(WeightMatrix matrix) {
    return matrix.tensor().dtype() == DType.BF16;
  }

  /**
   * Looks at what no copy is under way to.
   *
   * @param elements bf16, a multiple of 8
   * @return index of the first element that is not finite, or -1
   */
  synchronized long first(long address, long elements) {
    prepare();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment found = arena.allocate(JAVA_LONG);
      // On the default stream: nothing else computes while weights are loaded.
      device.check(
          JCudaDriver.cuLaunchKernel(
              kernel.function(),
              BLOCKS_PER_MULTIPROCESSOR * device.multiprocessors(),
              1,
              1,
              THREADS,
              1,
              1,
              0,
              null,
              Pointer.to(
                  Pointer.to(new long[] {address}),
                  Pointer.to(new long[] {elements}),
                  Pointer.to(new long[] {first.address()})),
              null),
          "launch of " + kernel.name());
      device.download(first.address(), found);
      long index = found.get(JAVA_LONG, 0);
      if (index != NONE) {
        reset();
      }
      return index;
    }
  }

  private void prepare() {
    device.makeCurrent();
    if (first == null) {
      kernel = device.kernel("finite", "first_not_finite");
      first = device.allocate(Long.BYTES, "workspace");
      reset();
    }
  }

  private void reset() {
    try (Arena arena = Arena.ofConfined()) {
      device.upload(arena.allocateFrom(JAVA_LONG, NONE), first.address());
    }
  }

  /** What an element of the device's memory is in the file. */
  static InfiniLoraException fault(
      List<List<WeightMatrix>> experts, StackedOutputs shape, long index) {
    long ofExpert = shape.bytes() / Short.BYTES;
    List<WeightMatrix> stacked = experts.get(Math.toIntExact(index / ofExpert));
    int row = Math.toIntExact(index % ofExpert / shape.paddedIn());
    int col = Math.toIntExact(index % shape.paddedIn());
    int output = stacked.size() - 1;
    while (row < shape.offset(output)) {
      output--;
    }
    WeightMatrix matrix = stacked.get(output);
    TensorView tensor = matrix.tensor();
    long element = matrix.element(row - shape.offset(output)) + col * matrix.colStride();
    return new InfiniLoraException(
        ErrorCode.BAD_MODEL_FILE,
        "%s: tensor %s holds a value that is not finite at [%d, %d]"
            .formatted(
                tensor.source(), tensor.name(), element / tensor.cols(), element % tensor.cols()));
  }

  @Override
  public synchronized void close() {
    if (first != null) {
      first.close();
      first = null;
    }
  }
}
