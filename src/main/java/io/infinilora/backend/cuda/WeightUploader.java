package io.infinilora.backend.cuda;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;

/**
 * Copies weights to the device through page-locked buffers: while some travel, threads of its own
 * fill others, with pieces of whatever was given, so that one large matrix keeps the bus as busy as
 * many small ones. Thread-safe.
 *
 * <p>Bytes that must move: the weights as the device holds them, once over the bus; in the host's
 * memory as often as they are copied there, read and written.
 */
final class WeightUploader implements AutoCloseable {
  /** Large enough for nearly the bus's full rate, small enough for a core's cache. */
  private static final long BUFFER_BYTES = 2L << 20;

  /** One that a thread fills, and one on its way. */
  private static final int BUFFERS = 2;

  /** Threads that fill buffers; more of them wait for memory. */
  private static final int MAX_THREADS = 16;

  /** One processor in so many is left to threads that wait for the device, and to the compiler. */
  private static final int SPARE = 8;

  private final CudaDevice device;
  private final CUstream stream = new CUstream();
  private final Queue<CopyBuffers> all = new ConcurrentLinkedQueue<>();
  private final ThreadLocal<CopyBuffers> own = ThreadLocal.withInitial(this::buffers);

  // Guarded by this.
  private ExecutorService fillers;

  /** Written before the threads begin that read it. */
  private StagingMemory memory;

  private boolean closed;

  WeightUploader(CudaDevice device) {
    this.device = device;
  }

  /**
   * Begins to make what copying needs, on other threads, unless it is there: a LoRA server has no
   * weights.
   *
   * @throws IllegalStateException if the uploader is closed
   */
  synchronized void prepare() {
    if (closed) {
      throw new IllegalStateException("closed: no weights can be copied any more");
    }
    device.makeCurrent();
    if (fillers == null) {
      device.check(
          JCudaDriver.cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING),
          "cuStreamCreate");
      int processors = Runtime.getRuntime().availableProcessors();
      int threads = Math.min(MAX_THREADS, processors - processors / SPARE);
      memory = new StagingMemory(device::pinnedUnset, threads, BUFFERS * BUFFER_BYTES);
      fillers =
          Executors.newFixedThreadPool(
              threads, Thread.ofPlatform().daemon().name("uploader-", 0).factory());
      // Each begins with what it needs first, while the caller finds out what to copy.
      for (int i = 0; i < threads; i++) {
        fillers.execute(this::makeBuffers);
      }
    }
  }

  private void makeBuffers() {
    try {
      own.get();
    } catch (RuntimeException e) {
      // The piece that needs them tries again, and somebody waits for it to be told why not.
    }
  }

  private CopyBuffers buffers() {
    device.makeCurrent();
    CopyBuffers buffers = new CopyBuffers(device, BUFFERS, memory.take());
    all.add(buffers);
    return buffers;
  }

  /**
   * Begins to take something; the device may compute with it after {@link Upload#await}. To be
   * closed before its sources are.
   */
  synchronized Upload begin() {
    prepare();
    return new Upload(fillers);
  }

  /** Copies a vector of any type as float32, and waits for it: it does not queue with matrices. */
  void floats(TensorView view, long address) {
    try (Arena arena = Arena.ofConfined()) {
      device.upload(arena.allocateFrom(ValueLayout.JAVA_FLOAT, VectorValues.of(view)), address);
    }
  }

  /** What belongs together. One thread at a time. */
  final class Upload implements AutoCloseable {
    private final TaskGroup pieces;

    private Upload(Executor fillers) {
      pieces = new TaskGroup(fillers);
    }

    /**
     * Copies a matrix as bf16.
     *
     * @param address device memory of {@code rows * stride} elements
     * @param stride elements from a row to the next; what is beyond the columns becomes zero
     */
    void matrix(WeightMatrix matrix, long address, int stride) {
      long rowBytes = (long) Short.BYTES * stride;
      int piece = (int) Math.min(BUFFER_BYTES / rowBytes, matrix.rows());
      if (piece == 0) {
        throw new InfiniLoraException(
            ErrorCode.UNSUPPORTED_MODEL,
            "%s: rows of more than %d elements are not supported on GPUs"
                .formatted(matrix, BUFFER_BYTES / Short.BYTES));
      }
      for (int from = 0; from < matrix.rows(); from += piece) {
        int first = from;
        int end = Math.min(from + piece, matrix.rows());
        long at = address + first * rowBytes;
        pieces.add(() -> send(matrix, stride, first, end, at, rowBytes));
      }
    }

    /** Copies within the device what has arrived before. */
    void copy(long from, long to, long bytes) {
      device.check(
          JCudaDriver.cuMemcpyDtoDAsync(
              new DevicePointer(to), new DevicePointer(from), bytes, stream),
          "cuMemcpyDtoDAsync(%d bytes)".formatted(bytes));
    }

    /**
     * Waits until all of it has arrived.
     *
     * @throws InfiniLoraException what is wrong with the first piece that could not be read
     */
    void await() {
      pieces.await();
      device.check(JCudaDriver.cuStreamSynchronize(stream), "cuStreamSynchronize");
    }

    /** Gives up what has not been read yet; nothing is read any more. */
    @Override
    public void close() {
      pieces.close();
    }
  }

  /** Of a thread of the uploader's. */
  private void send(
      WeightMatrix matrix, int stride, int from, int to, long address, long rowBytes) {
    device.makeCurrent();
    CopyBuffer buffer = own.get().next();
    long bytes = (to - from) * rowBytes;
    try (WeightRows rows = new WeightRows(matrix, stride)) {
      rows.write(from, to, buffer.writable().asSlice(0, bytes));
    }
    buffer.send(address, bytes, stream);
  }

  /** No upload may be open, and none begun any more. */
  @Override
  public synchronized void close() {
    if (!closed && fillers != null) {
      // Without interrupting: that would close the file that a piece is read from.
      fillers.close();
      device.release(
          () -> {
            device.check(JCudaDriver.cuStreamSynchronize(stream), "cuStreamSynchronize");
            device.check(JCudaDriver.cuStreamDestroy(stream), "cuStreamDestroy");
          });
      // Of a device that is lost, too: what is the host's stays until it is freed.
      all.forEach(CopyBuffers::close);
      all.clear();
      memory.close();
    }
    closed = true;
  }
}
