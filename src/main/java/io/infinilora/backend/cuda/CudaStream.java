package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import jcuda.driver.CUDA_MEMCPY2D;
import jcuda.driver.CUmemorytype;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;

/**
 * A CUDA stream with what its operators need besides kernels: staging for small arrays, scratch
 * memory, and the recording of steps. Its driver thread only.
 */
final class CudaStream implements AutoCloseable {
  private static final long INITIAL_SCRATCH = 16L << 20;

  private final CudaDevice device;
  private final Handle stream = new Handle();
  private final Arena arena = Arena.ofShared();
  private final Launch launch;
  private final UploadRing ring;
  private final StepRecorder recorder;
  private DeviceMemory scratch;
  private DeviceMemory sideScratch;

  /** The thread that used the stream last. */
  private Thread bound;

  /** Lets its address be read. */
  private static final class Handle extends CUstream {
    long address() {
      return getNativePointer();
    }
  }

  CudaStream(CudaDevice device) {
    this.device = device;
    device.makeCurrent();
    device.check(
        JCudaDriver.cuStreamCreate(stream, CUstream_flags.CU_STREAM_NON_BLOCKING),
        "cuStreamCreate");
    launch = new Launch(this, arena);
    ring = new UploadRing(this);
    recorder = new StepRecorder(this);
    scratch = device.allocate(INITIAL_SCRATCH, "workspace");
    sideScratch = device.allocate(INITIAL_SCRATCH, "workspace");
  }

  CudaDevice device() {
    return device;
  }

  CUstream stream() {
    return stream;
  }

  /** The driver's handle. */
  long handle() {
    return stream.address();
  }

  /** Records and replays steps. */
  StepRecorder recorder() {
    return recorder;
  }

  /** Makes the context current in a thread that is new to the stream. */
  void bind() {
    Thread thread = Thread.currentThread();
    if (thread != bound) {
      device.makeCurrent();
      bound = thread;
    }
  }

  /** Begins a launch; see {@link Launch}. */
  Launch launch(Kernel kernel) {
    bind();
    return launch.begin(kernel);
  }

  /**
   * Mixes work into the step's signature.
   *
   * @return whether it is to be given to the driver: not while a recorded step is replayed
   */
  boolean announce(long hash) {
    return recorder.announce(hash);
  }

  /**
   * Rows that an operator computes for {@code rows} rows of the step: more, if the step is padded
   * to be recorded.
   */
  int launchRows(int rows) {
    return recorder.padded(rows);
  }

  /**
   * Copies values for the operators of this step.
   *
   * @param capacity elements to set aside, the same for all steps of a bucket; what lies beyond
   *     {@code count} is 0
   * @return device address, aligned to 16 bytes
   */
  long upload(int[] values, int from, int count, int capacity) {
    return upload(MemorySegment.ofArray(values).asSlice(4L * from, 4L * count), 4L * capacity);
  }

  /** Likewise. */
  long upload(long[] values, int from, int count, int capacity) {
    return upload(MemorySegment.ofArray(values).asSlice(8L * from, 8L * count), 8L * capacity);
  }

  private long upload(MemorySegment values, long capacity) {
    long bytes = Math.max(values.byteSize(), capacity);
    long at = reserve(bytes);
    MemorySegment host = host(at, bytes);
    host.copyFrom(values);
    host.asSlice(values.byteSize()).fill((byte) 0);
    return send(at, bytes);
  }

  /** Copies values through a ring of the caller's. */
  long upload(UploadRing through, int[] values) {
    long bytes = 4L * values.length;
    long at = through.reserve(bytes);
    MemorySegment.copy(values, 0, through.host(at, bytes), JAVA_INT, 0, values.length);
    return through.send(at, bytes);
  }

  private long reserve(long bytes) {
    return recorder.active() ? recorder.reserve(bytes) : ring.reserve(bytes);
  }

  private MemorySegment host(long at, long bytes) {
    return recorder.active() ? recorder.host(at, bytes) : ring.host(at, bytes);
  }

  private long send(long at, long bytes) {
    return recorder.active() ? recorder.send(at, bytes) : ring.send(at, bytes);
  }

  /** Asynchronous copy from pinned host memory. */
  void copyToDevice(long host, long address, long bytes) {
    bind();
    int status =
        JCudaDriver.cuMemcpyHtoDAsync(
            new DevicePointer(address),
            new HostPointer(MemorySegment.ofAddress(host)),
            bytes,
            stream);
    if (status != CUresult.CUDA_SUCCESS) { // No message is made otherwise: steps come here.
      device.check(status, "cuMemcpyHtoDAsync(%d bytes)".formatted(bytes));
    }
  }

  /** Asynchronous copy to pinned host memory. */
  void copyToHost(long address, long host, long bytes) {
    bind();
    device.check(
        JCudaDriver.cuMemcpyDtoHAsync(
            new HostPointer(MemorySegment.ofAddress(host)),
            new DevicePointer(address),
            bytes,
            stream),
        "cuMemcpyDtoHAsync(%d bytes)".formatted(bytes));
  }

  /** Asynchronous copy of rows within the device; widths and strides in bytes. */
  void copyRows(long from, long fromStride, long to, long toStride, long width, int rows) {
    bind();
    CUDA_MEMCPY2D copy = new CUDA_MEMCPY2D();
    copy.srcMemoryType = CUmemorytype.CU_MEMORYTYPE_DEVICE;
    copy.srcDevice = new DevicePointer(from);
    copy.srcPitch = fromStride;
    copy.dstMemoryType = CUmemorytype.CU_MEMORYTYPE_DEVICE;
    copy.dstDevice = new DevicePointer(to);
    copy.dstPitch = toStride;
    copy.WidthInBytes = width;
    copy.Height = rows;
    if (announce(Signature.ofCopy(from, fromStride, to, toStride, width, rows))) {
      device.check(JCudaDriver.cuMemcpy2DAsync(copy, stream), "cuMemcpy2DAsync");
    }
  }

  /**
   * Memory for intermediate results of one operator; the next operator that asks gets the same.
   *
   * @return device address, aligned to 256 bytes
   */
  long scratch(long bytes) {
    scratch = grown(scratch, bytes);
    return scratch.address();
  }

  /** The same, besides {@link #scratch}, for a part of the operator. */
  long sideScratch(long bytes) {
    sideScratch = grown(sideScratch, bytes);
    return sideScratch.address();
  }

  /** Bytes that are set aside if so many are needed: a quarter more at most. */
  static long grown(long bytes) {
    if (bytes <= INITIAL_SCRATCH) {
      return INITIAL_SCRATCH;
    }
    long step = Long.highestOneBit(bytes) / 4;
    return (bytes + step - 1) / step * step;
  }

  private DeviceMemory grown(DeviceMemory memory, long bytes) {
    if (bytes <= memory.bytes() || recorder.staging()) {
      return memory;
    }
    recorder.forget(); // Recordings hold the old address.
    synchronize();
    memory.close();
    return device.allocate(grown(bytes), "workspace");
  }

  /** Waits until everything that was called so far is done. */
  void synchronize() {
    bind();
    device.check(JCudaDriver.cuStreamSynchronize(stream), "cuStreamSynchronize");
  }

  @Override
  public void close() {
    device.release(
        () -> {
          synchronize();
          recorder.close();
          ring.close();
          scratch.close();
          sideScratch.close();
          device.check(JCudaDriver.cuStreamDestroy(stream), "cuStreamDestroy");
        });
    arena.close();
  }
}
