package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import io.infinilora.core.DType;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Weights arrive on a GPU as they are read. */
@Tag("gpu")
class WeightUploaderTest {
  private static final long BUDGET = 8L << 30;
  private static final int THREADS = 8;

  @BeforeEach
  void needsGpu() {
    Optional<String> obstacle = CudaProbe.obstacle(0);
    assumeTrue(obstacle.isEmpty(), () -> obstacle.orElseThrow());
    assumeTrue(CudaProbe.freeMemory(0) > BUDGET, "the GPU is in use");
  }

  @Test
  void everyThreadsMatricesArrive() throws Exception {
    try (CudaDevice device = CudaDevice.open(0, BUDGET);
        WeightUploader uploader = new WeightUploader(device);
        Arena arena = Arena.ofShared()) {
      List<WeightMatrix> matrices = new ArrayList<>();
      SplittableRandom random = new SplittableRandom(1);
      for (int i = 0; i < 64; i++) {
        DType dtype = i % 3 == 0 ? DType.BF16 : i % 3 == 1 ? DType.F16 : DType.F32;
        long[] shape = {1 + random.nextInt(3000), 1 + random.nextInt(3000)};
        MemorySegment data = arena.allocate(dtype.bytes(shape[0] * shape[1]));
        for (long at = 0; at + 2 <= data.byteSize(); at += 2) {
          data.set(ValueLayout.JAVA_SHORT_UNALIGNED, at, (short) random.nextInt(0x4000));
        }
        matrices.add(WeightMatrix.of(new TensorView("w" + i, dtype, shape, data, "this test")));
      }
      inParallel(matrices, matrix -> check(device, uploader, matrix, arena));
    }
  }

  private static void check(
      CudaDevice device, WeightUploader uploader, WeightMatrix matrix, Arena arena) {
    int stride = CudaTensor.padded(matrix.cols());
    long bytes = 2L * matrix.rows() * stride;
    try (DeviceMemory memory = device.allocate(bytes, "test");
        WeightRows rows = new WeightRows(matrix, stride)) {
      uploader.matrix(matrix, memory.address(), stride);
      uploader.await();
      MemorySegment actual = arena.allocate(bytes);
      device.download(memory.address(), actual);
      MemorySegment expected = arena.allocate(bytes);
      rows.write(0, matrix.rows(), expected);
      assertThat(actual.mismatch(expected)).as("first byte that differs").isEqualTo(-1);
    }
  }

  /** Not a check of speed, but its figure: from the page cache to the device. */
  @Test
  void aFileInThePageCache(@TempDir Path directory) throws Exception {
    long matrixBytes = 64L << 20;
    int count = 32;
    try (FileChannel file =
            FileChannel.open(
                directory.resolve("weights"),
                StandardOpenOption.CREATE_NEW,
                StandardOpenOption.READ,
                StandardOpenOption.WRITE);
        Arena arena = Arena.ofShared();
        CudaDevice device = CudaDevice.open(0, BUDGET);
        WeightUploader uploader = new WeightUploader(device);
        DeviceMemory memory = device.allocate(matrixBytes * count, "test")) {
      map(file, arena, FileChannel.MapMode.READ_WRITE, matrixBytes * count).fill((byte) 1);
      for (int threads : new int[] {1, 2, 4, THREADS, 2 * THREADS, THREADS}) {
        MemorySegment all = map(file, arena, FileChannel.MapMode.READ_ONLY, matrixBytes * count);
        List<Long> places = new ArrayList<>();
        for (int i = 0; i < count; i++) {
          places.add(i * matrixBytes);
        }
        long start = System.nanoTime();
        inParallel(
            places,
            at ->
                uploader.matrix(
                    WeightMatrix.of(
                        new TensorView(
                            "w",
                            DType.BF16,
                            new long[] {matrixBytes / 8192, 4096},
                            all.asSlice(at, matrixBytes),
                            "this test")),
                    memory.address() + at,
                    4096),
            threads);
        uploader.await();
        double seconds = (System.nanoTime() - start) / 1e9;
        System.out.printf(
            "%d threads upload %.1f GB/s%n", threads, matrixBytes * count / seconds / 1e9);
      }
    }
  }

  private static MemorySegment map(
      FileChannel file, Arena arena, FileChannel.MapMode mode, long bytes) throws IOException {
    return file.map(mode, 0, bytes, arena);
  }

  private interface Work<T> {
    void run(T item);
  }

  private static <T> void inParallel(List<T> items, Work<T> work)
      throws InterruptedException, ExecutionException {
    inParallel(items, work, THREADS);
  }

  private static <T> void inParallel(List<T> items, Work<T> work, int threads)
      throws InterruptedException, ExecutionException {
    try (ExecutorService pool = Executors.newFixedThreadPool(threads)) {
      List<Future<?>> all = new ArrayList<>();
      for (T item : items) {
        all.add(pool.submit(() -> work.run(item)));
      }
      for (Future<?> one : all) {
        one.get();
      }
    }
  }
}
