package io.infinilora.backend.cuda;

import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;

/**
 * Copies weights to the device through page-locked buffers: while some travel, the threads that
 * load fill others. Thread-safe.
 *
 * <p>Bytes that must move: the weights as the device holds them, once over the bus. Whoever gives
 * something must {@link #await} before the device may compute with it.
 */
final class WeightUploader implements AutoCloseable {
  /** Large enough for the bus's full rate. */
  private static final long BUFFER_BYTES = 4L << 20;

  /** One for each thread that loads, and as many on their way. */
  private static final int BUFFERS = 32;

  private final CudaDevice device;
  private final CUstream stream = new CUstream();
  private final BlockingQueue<CopyBuffer> free = new LinkedBlockingQueue<>();
  private final List<CopyBuffer> all = new ArrayList<>();

  WeightUploader(CudaDevice device) {
    this.device = device;
  }

  /** Made for the first weights: a LoRA server has none. */
  private synchronized void prepare() {
    device.makeCurrent();
    if (all.isEmpty()) {
      device.check(
          JCudaDriver.cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING),
          "cuStreamCreate");
      for (int i = 0; i < BUFFERS; i++) {
        all.add(new CopyBuffer(device, BUFFER_BYTES));
      }
      free.addAll(all);
    }
  }

  /**
   * Copies a matrix as bf16; returns when its last piece is on its way.
   *
   * @param address device memory of {@code rows * stride} elements
   * @param stride elements from a row to the next; what is beyond the columns becomes zero
   */
  void matrix(WeightMatrix matrix, long address, int stride) {
    prepare();
    long rowBytes = (long) Short.BYTES * stride;
    int piece = (int) Math.min(BUFFER_BYTES / rowBytes, matrix.rows());
    if (piece == 0) {
      throw new InfiniLoraException(
          ErrorCode.UNSUPPORTED_MODEL,
          "%s: rows of more than %d elements are not supported on GPUs"
              .formatted(matrix, BUFFER_BYTES / Short.BYTES));
    }
    try (WeightRows rows = new WeightRows(matrix, stride)) {
      for (int from = 0; from < matrix.rows(); from += piece) {
        int to = Math.min(from + piece, matrix.rows());
        long bytes = (to - from) * rowBytes;
        int first = from;
        send(address + from * rowBytes, bytes, into -> rows.write(first, to, into));
      }
    }
  }

  /** Copies a vector of any type as float32; likewise. */
  void floats(TensorView view, long address) {
    prepare();
    RowDecoder decoder = new RowDecoder(WeightMatrix.of(view));
    long rowBytes = (long) Float.BYTES * view.cols();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment values = arena.allocate(rowBytes * view.rows(), Float.BYTES);
      for (int r = 0; r < view.rows(); r++) {
        decoder.decode(r, values.address() + r * rowBytes);
      }
      for (long at = 0; at < values.byteSize(); at += BUFFER_BYTES) {
        MemorySegment piece = values.asSlice(at, Math.min(BUFFER_BYTES, values.byteSize() - at));
        send(address + at, piece.byteSize(), into -> into.copyFrom(piece));
      }
    }
  }

  /** Copies within the device what was given before; likewise. */
  void copy(long from, long to, long bytes) {
    prepare();
    device.check(
        JCudaDriver.cuMemcpyDtoDAsync(
            new DevicePointer(to), new DevicePointer(from), bytes, stream),
        "cuMemcpyDtoDAsync(%d bytes)".formatted(bytes));
  }

  /** Waits until all that was given so far, by any thread, has arrived. */
  void await() {
    prepare();
    device.check(JCudaDriver.cuStreamSynchronize(stream), "cuStreamSynchronize");
  }

  /** Writes bytes to a buffer. */
  private interface Filler {
    void fill(MemorySegment into);
  }

  private void send(long address, long bytes, Filler filler) {
    CopyBuffer buffer = take();
    try {
      filler.fill(buffer.writable().asSlice(0, bytes));
      buffer.send(address, bytes, stream);
    } finally {
      free.add(buffer);
    }
  }

  /** The buffer that has been on its way for longest. */
  private CopyBuffer take() {
    try {
      return free.take();
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while weights are loaded", e);
    }
  }

  /** No weights may be given any more. */
  @Override
  public synchronized void close() {
    if (!all.isEmpty()) {
      device.release(
          () -> {
            device.check(JCudaDriver.cuStreamSynchronize(stream), "cuStreamSynchronize");
            device.check(JCudaDriver.cuStreamDestroy(stream), "cuStreamDestroy");
            all.forEach(CopyBuffer::close);
          });
      all.clear();
      free.clear();
    }
  }
}
