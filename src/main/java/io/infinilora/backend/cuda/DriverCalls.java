package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;

/**
 * Driver calls that JCuda lacks, bound by the foreign-function interface. Statuses are returned.
 */
final class DriverCalls {
  private static final SymbolLookup DRIVER =
      SymbolLookup.libraryLookup("libcuda.so.1", Arena.global());

  private static final MethodHandle LAUNCH =
      bind(
          "cuLaunchKernelEx",
          FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_LONG, ADDRESS, JAVA_LONG));

  private DriverCalls() {}

  /** A function of the driver's library. */
  static MethodHandle bind(String name, FunctionDescriptor type) {
    return Linker.nativeLinker().downcallHandle(DRIVER.findOrThrow(name), type);
  }

  /**
   * Launches a kernel.
   *
   * @param config a {@code CUlaunchConfig}
   * @param function a {@code CUfunction}
   * @param parameters addresses of the arguments
   */
  static int launch(MemorySegment config, long function, MemorySegment parameters) {
    try {
      return (int) LAUNCH.invokeExact(config, function, parameters, 0L);
    } catch (Throwable e) {
      throw new IllegalStateException("cuLaunchKernelEx could not be called", e);
    }
  }
}
