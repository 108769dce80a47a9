package io.infinilora.backend.cuda;

import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.Collectors;
import jcuda.driver.CUcontext;
import jcuda.driver.CUdevice;
import jcuda.driver.CUdevice_attribute;
import jcuda.driver.CUmodule;
import jcuda.driver.CUresult;
import jcuda.driver.CUstream;
import jcuda.driver.CUstream_flags;
import jcuda.driver.JCudaDriver;

/**
 * One GPU: its context, memory and kernels. Thread-safe; every method that talks to the driver
 * makes the device's context the current one of the calling thread.
 */
final class CudaDevice implements AutoCloseable {
  private static final CUstream DEFAULT_STREAM = new CUstream();

  private static final int LEAST_SHARED = 99 << 10;
  private static final long LOOK_MILLIS = 20;

  /** The compute capability that the machine code in our files is for. */
  private static final int HOPPER = 90;

  private final CUdevice device;
  private final CUcontext context;
  private final String name;
  private final int computeCapability;
  private final int multiprocessors;
  private final long budget;
  private final Map<String, CUmodule> modules = new HashMap<>();
  private final Map<String, Kernel> kernels = new HashMap<>();

  /** Null until it is looked for; guarded by this. */
  private Optional<CublasLt> blas;

  /** Bytes in use by purpose; guarded by itself. */
  private final Map<String, Long> used = new TreeMap<>();

  private final CUstream idle = new CUstream();
  private final Object looking = new Object();
  private volatile long nextLook = System.nanoTime();
  private volatile boolean closed;
  private volatile CudaException lost;

  /** See {@link #hopper}; null before it is asked for. */
  private Boolean hopper;

  private CudaDevice(CUdevice device, CUcontext context, long budget) {
    this.device = device;
    this.context = context;
    name = nameOf(device);
    computeCapability =
        10 * attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)
            + attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
    multiprocessors = attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
    this.budget = budget;
    fail(JCudaDriver.cuStreamCreate(idle, CUstream_flags.CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  }

  /**
   * Takes a device into use.
   *
   * @param ordinal number of the device, from 0
   * @param budget bytes that may be allocated
   */
  static CudaDevice open(int ordinal, long budget) {
    JCudaDriver.setExceptionsEnabled(false);
    fail(JCudaDriver.cuInit(0), "cuInit");
    CUdevice device = new CUdevice();
    fail(JCudaDriver.cuDeviceGet(device, ordinal), "cuDeviceGet(" + ordinal + ")");
    CUcontext context = new CUcontext();
    fail(JCudaDriver.cuDevicePrimaryCtxRetain(context, device), "cuDevicePrimaryCtxRetain");
    fail(JCudaDriver.cuCtxSetCurrent(context), "cuCtxSetCurrent");
    return new CudaDevice(device, context, budget);
  }

  static void fail(int status, String call) {
    if (status != CUresult.CUDA_SUCCESS) {
      throw new CudaException(status, call);
    }
  }

  static String nameOf(CUdevice device) {
    byte[] bytes = new byte[256];
    fail(JCudaDriver.cuDeviceGetName(bytes, bytes.length, device), "cuDeviceGetName");
    String text = new String(bytes, StandardCharsets.UTF_8);
    return text.substring(0, text.indexOf('\0'));
  }

  /** Throws if a call failed. A device that is lost stays so. */
  void check(int status, String call) {
    if (status != CUresult.CUDA_SUCCESS) {
      CudaException e = new CudaException(status, call);
      if (e.deviceLost() && lost == null) {
        lost = e; // What fails later says less.
      }
      throw e;
    }
  }

  /** Why the device cannot be used any more, or null; as far as a call has failed. */
  CudaException lost() {
    return lost;
  }

  /**
   * Asks the driver whether the device is still there: while nobody calls it, nobody notices. Takes
   * about a microsecond, and that at most every {@value #LOOK_MILLIS} ms. Any thread.
   *
   * @return as {@link #lost()}
   */
  CudaException look() {
    long now = System.nanoTime();
    if (lost == null && now - nextLook >= 0) {
      nextLook = now + LOOK_MILLIS * 1_000_000;
      synchronized (looking) {
        if (!closed) {
          try {
            check(state(), "cuStreamQuery");
          } catch (CudaException e) {
            // If it is lost, that is known now.
          }
        }
      }
    }
    return lost;
  }

  /** A status that tells of earlier failures in the context. */
  int state() {
    JCudaDriver.cuCtxSetCurrent(context);
    int status = JCudaDriver.cuStreamQuery(idle);
    return status == CUresult.CUDA_ERROR_NOT_READY ? CUresult.CUDA_SUCCESS : status;
  }

  /** A {@code CUdevice_attribute}. */
  int attribute(int id) {
    int[] value = new int[1];
    check(JCudaDriver.cuDeviceGetAttribute(value, id, device), "cuDeviceGetAttribute(" + id + ")");
    return value[0];
  }

  /** What the maker calls it. */
  String name() {
    return name;
  }

  /** Ten times the major version plus the minor one: 90 for Hopper. */
  int computeCapability() {
    return computeCapability;
  }

  /**
   * Whether the driver compiles PTX even where there is machine code for the device, as it does if
   * {@code CUDA_FORCE_PTX_JIT} is 1 in the environment: so Hopper can run what other devices run.
   */
  boolean machineCodeIgnored() {
    return computeCapability == HOPPER && !hopper();
  }

  /**
   * Whether the driver runs the machine code for Hopper, and not the PTX that is compiled for all
   * other devices, older and newer: that knows neither clusters nor programmatic dependent launches
   * nor the copy engine, so nobody may launch it with them.
   */
  synchronized boolean hopper() {
    if (hopper == null) {
      hopper = kernel("signals", "signal_release").ptxVersion() >= HOPPER;
    }
    return hopper;
  }

  /**
   * Shared memory that a block can have, static and dynamic: 99 KiB on devices of capability 8.6,
   * 8.9 and 12.0, more on others. Where Hopper is told to be one of the others, as little as the
   * least of them.
   */
  int sharedMemory() {
    int bytes = attribute(CUdevice_attribute.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
    return machineCodeIgnored() ? Math.min(bytes, LEAST_SHARED) : bytes;
  }

  /** Streaming multiprocessors. */
  int multiprocessors() {
    return multiprocessors;
  }

  /** Makes the context current; cheap if it is. */
  void makeCurrent() {
    if (closed) {
      throw new IllegalStateException(name + " is closed");
    }
    check(JCudaDriver.cuCtxSetCurrent(context), "cuCtxSetCurrent");
  }

  /** Bytes that may be allocated in all. */
  long budget() {
    return budget;
  }

  /** Bytes in use by purpose. */
  Map<String, Long> used() {
    synchronized (used) {
      return new TreeMap<>(used);
    }
  }

  /** Bytes in use. */
  long usedBytes() {
    synchronized (used) {
      return used.values().stream().mapToLong(Long::longValue).sum();
    }
  }

  /**
   * Zeroed memory.
   *
   * @param what purpose, for the count and for errors
   * @throws InfiniLoraException BAD_CONFIG if the budget or the device does not have it
   */
  DeviceMemory allocate(long bytes, String what) {
    DeviceMemory memory = allocateUnset(bytes, what);
    zero(memory.address(), bytes);
    return memory;
  }

  /** Sets memory to zero and waits for it. Not ordered with streams. */
  void zero(long address, long bytes) {
    if (bytes == 0) {
      return; // Not said what the driver answers.
    }
    makeCurrent();
    check(JCudaDriver.cuMemsetD8(new DevicePointer(address), (byte) 0, bytes), "cuMemsetD8");
    // Streams of ours do not wait for the default stream, on which memory is zeroed.
    check(JCudaDriver.cuStreamSynchronize(DEFAULT_STREAM), "cuStreamSynchronize");
  }

  /** Memory of any contents; else as {@link #allocate}. */
  DeviceMemory allocateUnset(long bytes, String what) {
    if (bytes < 0) {
      throw new IllegalArgumentException("no memory can have " + bytes + " bytes");
    }
    makeCurrent();
    reserve(bytes, what);
    DevicePointer pointer = new DevicePointer();
    int status = JCudaDriver.cuMemAlloc(pointer, Math.max(bytes, 1));
    if (status != CUresult.CUDA_SUCCESS) {
      release(bytes, what);
      if (status == CUresult.CUDA_ERROR_OUT_OF_MEMORY) {
        throw tooLittle(bytes, what, "the device has no more");
      }
      check(status, "cuMemAlloc(%d bytes for %s)".formatted(bytes, what));
    }
    return new DeviceMemory(this, pointer.address(), bytes, what);
  }

  private void reserve(long bytes, String what) {
    synchronized (used) {
      if (bytes > budget - usedBytes()) {
        throw tooLittle(bytes, what, "the budget is %d bytes".formatted(budget));
      }
      used.merge(what, bytes, Long::sum);
    }
  }

  private InfiniLoraException tooLittle(long bytes, String what, String why) {
    String parts =
        used().entrySet().stream()
            .map(e -> e.getKey() + " " + e.getValue())
            .collect(Collectors.joining(", "));
    return new InfiniLoraException(
        ErrorCode.BAD_CONFIG,
        "%s: no %d bytes for %s: %s; in use: %s".formatted(name, bytes, what, why, parts));
  }

  private void release(long bytes, String what) {
    synchronized (used) {
      used.computeIfPresent(what, (key, before) -> before == bytes ? null : before - bytes);
    }
  }

  void free(DeviceMemory memory) {
    if (closed || lost != null) {
      return; // It went with the context.
    }
    makeCurrent();
    check(
        JCudaDriver.cuMemFree(new DevicePointer(memory.address())),
        "cuMemFree(" + memory.what() + ")");
    release(memory.bytes(), memory.what());
  }

  /** Page-locked host memory, zeroed. */
  PinnedMemory pinned(long bytes) {
    PinnedMemory memory = pinnedUnset(bytes);
    memory.segment().fill((byte) 0);
    return memory;
  }

  /** Page-locked host memory of any contents. */
  PinnedMemory pinnedUnset(long bytes) {
    makeCurrent();
    HostPointer pointer = new HostPointer();
    check(
        JCudaDriver.cuMemHostAlloc(
            pointer,
            Math.max(bytes, 1),
            JCudaDriver.CU_MEMHOSTALLOC_PORTABLE | JCudaDriver.CU_MEMHOSTALLOC_DEVICEMAP),
        "cuMemHostAlloc(%d bytes of page-locked host memory)".formatted(bytes));
    return new PinnedMemory(this, MemorySegment.ofAddress(pointer.address()).reinterpret(bytes));
  }

  void free(PinnedMemory memory) {
    if (closed || lost != null) {
      return; // It went with the context.
    }
    makeCurrent();
    check(JCudaDriver.cuMemFreeHost(new HostPointer(memory.segment())), "cuMemFreeHost");
  }

  /** Copies to the device and waits for it. Not ordered with streams. */
  void upload(MemorySegment host, long address) {
    makeCurrent();
    check(
        JCudaDriver.cuMemcpyHtoD(
            new DevicePointer(address), new HostPointer(host), host.byteSize()),
        "cuMemcpyHtoD(%d bytes)".formatted(host.byteSize()));
    // From pageable memory the call may return before the last bytes have arrived.
    check(JCudaDriver.cuStreamSynchronize(DEFAULT_STREAM), "cuStreamSynchronize");
  }

  /** Copies to the host and waits for it. Not ordered with streams. */
  void download(long address, MemorySegment host) {
    makeCurrent();
    check(
        JCudaDriver.cuMemcpyDtoH(
            new HostPointer(host), new DevicePointer(address), host.byteSize()),
        "cuMemcpyDtoH(%d bytes)".formatted(host.byteSize()));
  }

  /**
   * A kernel, loaded when it is first asked for.
   *
   * @param file name of its source in {@code src/main/cuda}, without the ending
   */
  synchronized Kernel kernel(String file, String function) {
    return kernels.computeIfAbsent(
        file + "." + function,
        key -> {
          makeCurrent();
          Kernel.Handle handle = new Kernel.Handle();
          check(
              JCudaDriver.cuModuleGetFunction(handle, module(file), function),
              "cuModuleGetFunction(" + key + ")");
          return new Kernel(this, function, handle);
        });
  }

  /** The matrix library, one handle for all streams; looked for when it is first asked for. */
  synchronized Optional<CublasLt> blas() {
    if (blas == null) {
      makeCurrent();
      blas = CublasLt.find();
    }
    return blas;
  }

  private CUmodule module(String file) {
    return modules.computeIfAbsent(
        file,
        key -> {
          CUmodule module = new CUmodule();
          check(JCudaDriver.cuModuleLoadData(module, fatbin(key)), "cuModuleLoadData(" + key + ")");
          return module;
        });
  }

  private static byte[] fatbin(String file) {
    try (InputStream in = CudaDevice.class.getResourceAsStream(file + ".fatbin")) {
      if (in == null) {
        throw new InfiniLoraException(
            ErrorCode.BAD_CONFIG,
            "this build has no GPU kernels (%s.fatbin): it was built without a CUDA compiler"
                .formatted(file));
      }
      return in.readAllBytes();
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Gives the context back, and all memory with it. */
  @Override
  public void close() {
    synchronized (looking) {
      if (!closed) {
        try {
          closeBlas();
        } finally {
          closed = true;
          JCudaDriver.cuDevicePrimaryCtxRelease(device);
        }
      }
    }
  }

  /**
   * Gives back what a part of the backend has, of which nothing is left if the device is lost,
   * noticed or not.
   */
  void release(Runnable calls) {
    if (lost == null) {
      try {
        makeCurrent();
        calls.run();
      } catch (CudaException e) {
        if (!e.deviceLost()) {
          throw e;
        }
      }
    }
  }

  private synchronized void closeBlas() {
    if (blas != null && lost == null && state() == 0) {
      makeCurrent();
      blas.ifPresent(CublasLt::close);
    }
    blas = null;
  }
}
