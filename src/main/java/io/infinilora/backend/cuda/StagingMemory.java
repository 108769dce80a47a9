package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import jcuda.driver.CUresult;
import jcuda.driver.JCudaDriver;

/**
 * Page-locked host memory that is quickly made: of huge pages where the system has some, which
 * locks them in a fraction of the time that the driver takes for memory of its own. Its contents
 * are arbitrary. Thread-safe but for {@link #close}.
 */
final class StagingMemory implements AutoCloseable {
  private static final long HUGE_PAGE = 2L << 20;
  private static final int MADV_HUGEPAGE = 14;
  private static final SymbolLookup LIBC = Linker.nativeLinker().defaultLookup();

  private static final MethodHandle ALIGNED_ALLOC =
      bind("aligned_alloc", FunctionDescriptor.of(ADDRESS, JAVA_LONG, JAVA_LONG));
  private static final MethodHandle MADVISE =
      bind("madvise", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, JAVA_INT));
  private static final MethodHandle FREE = bind("free", FunctionDescriptor.ofVoid(ADDRESS));

  private final CudaDevice device;
  private final MemorySegment segment;

  /** What the driver gave instead; null if ours could be locked. */
  private final PinnedMemory driversOwn;

  /**
   * Makes some.
   *
   * @param bytes rounded up to whole huge pages
   */
  StagingMemory(CudaDevice device, long bytes) {
    this.device = device;
    long size = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    device.makeCurrent();
    MemorySegment own = allocate(size);
    if (own.address() != 0
        && JCudaDriver.cuMemHostRegister(
                new HostPointer(own), size, JCudaDriver.CU_MEMHOSTREGISTER_PORTABLE)
            == CUresult.CUDA_SUCCESS) {
      driversOwn = null;
      segment = own;
      return;
    }
    free(own);
    driversOwn = device.pinned(size);
    segment = driversOwn.segment();
  }

  MemorySegment segment() {
    return segment;
  }

  private static MethodHandle bind(String name, FunctionDescriptor type) {
    return Linker.nativeLinker().downcallHandle(LIBC.findOrThrow(name), type);
  }

  private static MemorySegment allocate(long size) {
    try {
      MemorySegment memory = (MemorySegment) ALIGNED_ALLOC.invokeExact(HUGE_PAGE, size);
      if (memory.address() != 0) {
        // Whether it helps or not: small pages do as well.
        int ignored = (int) MADVISE.invokeExact(memory, size, MADV_HUGEPAGE);
      }
      return memory.reinterpret(size);
    } catch (Throwable e) {
      throw new IllegalStateException("memory could not be allocated", e);
    }
  }

  private static void free(MemorySegment memory) {
    try {
      FREE.invokeExact(memory);
    } catch (Throwable e) {
      throw new IllegalStateException("memory could not be freed", e);
    }
  }

  /** Frees it; no stream may use it any more. */
  @Override
  public void close() {
    if (driversOwn != null) {
      driversOwn.close();
      return;
    }
    try {
      device.release(
          () ->
              device.check(
                  JCudaDriver.cuMemHostUnregister(new HostPointer(segment)),
                  "cuMemHostUnregister"));
    } finally {
      free(segment);
    }
  }
}
