package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.core.ByteSource;
import io.infinilora.core.DType;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
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
    Gpu.require(BUDGET);
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
        WeightRows rows = new WeightRows(matrix, stride);
        WeightUploader.Upload upload = uploader.begin()) {
      upload.matrix(matrix, memory.address(), stride);
      upload.await();
      MemorySegment actual = arena.allocate(bytes);
      device.download(memory.address(), actual);
      MemorySegment expected = arena.allocate(bytes);
      rows.write(0, matrix.rows(), expected);
      assertThat(actual.mismatch(expected)).as("first byte that differs").isEqualTo(-1);
    }
  }

  @Test
  void aFileArrives(@TempDir Path directory) throws Exception {
    long bytes = 24 << 20;
    try (FileChannel file =
            FileChannel.open(
                directory.resolve("weights"),
                StandardOpenOption.CREATE_NEW,
                StandardOpenOption.READ,
                StandardOpenOption.WRITE);
        Arena arena = Arena.ofShared();
        CudaDevice device = CudaDevice.open(0, BUDGET);
        WeightUploader uploader = new WeightUploader(device)) {
      MemorySegment all = file.map(FileChannel.MapMode.READ_WRITE, 0, 40 + bytes, arena);
      SplittableRandom random = new SplittableRandom(2);
      for (long at = 0; at < all.byteSize(); at += 8) {
        all.set(ValueLayout.JAVA_LONG, at, random.nextLong());
      }
      long[] shape = {bytes / 4096, 2048};
      MemorySegment part = all.asSlice(40, bytes);
      check(
          device,
          uploader,
          WeightMatrix.of(new TensorView("w", DType.BF16, shape, part, "this test")),
          arena);
      ByteSource source = (at, into) -> read(file, 40 + at, into.asByteBuffer());
      check(
          device,
          uploader,
          WeightMatrix.of(new TensorView("w", DType.BF16, shape, part, "this test", source)),
          arena);
    }
  }

  private static void read(FileChannel file, long at, ByteBuffer into) {
    try {
      assertThat(file.read(into, at)).isEqualTo(into.limit());
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** What is given up is not read any more, and the uploader goes on with the next. */
  @Test
  void uploadsCanFailAndBeGivenUp() {
    long bytes = 64 << 20;
    long[] shape = {bytes / 4096, 2048};
    try (Arena arena = Arena.ofShared();
        CudaDevice device = CudaDevice.open(0, BUDGET);
        WeightUploader uploader = new WeightUploader(device);
        DeviceMemory memory = device.allocate(bytes, "test")) {
      MemorySegment data = arena.allocate(bytes);
      AtomicInteger reads = new AtomicInteger();
      ByteSource bad =
          (at, into) -> {
            reads.incrementAndGet();
            if (at >= 8 << 20) {
              throw new InfiniLoraException(ErrorCode.BAD_MODEL_FILE, "at " + at);
            }
          };
      TensorView faulty = new TensorView("w", DType.BF16, shape, data, "this test", bad);
      for (int i = 0; i < 100; i++) {
        try (WeightUploader.Upload upload = uploader.begin()) {
          upload.matrix(WeightMatrix.of(faulty), memory.address(), 2048);
          if (i % 2 == 0) {
            assertThatThrownBy(upload::await)
                .isInstanceOf(InfiniLoraException.class)
                .hasMessage("at " + (8 << 20));
          }
        }
        int before = reads.get();
        Thread.onSpinWait();
        assertThat(reads).hasValue(before);
      }
      CountDownLatch interrupted = new CountDownLatch(1);
      TensorView slow =
          new TensorView(
              "w", DType.BF16, shape, data, "this test", (at, into) -> await(interrupted));
      Thread.currentThread().interrupt();
      try (WeightUploader.Upload upload = uploader.begin()) {
        upload.matrix(WeightMatrix.of(slow), memory.address(), 2048);
        assertThatThrownBy(upload::await).isInstanceOf(IllegalStateException.class);
        interrupted.countDown();
      }
      assertThat(Thread.interrupted()).isTrue();
      TensorView whole = new TensorView("w", DType.BF16, shape, data, "this test");
      check(device, uploader, WeightMatrix.of(whole), arena);
    }
  }

  private static void await(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  private interface Work<T> {
    void run(T item);
  }

  private static <T> void inParallel(List<T> items, Work<T> work)
      throws InterruptedException, ExecutionException {
    try (ExecutorService pool = Executors.newFixedThreadPool(THREADS)) {
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
