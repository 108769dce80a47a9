package io.infinilora.backend.cuda;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.util.Arrays;

/** Describes bf16 matrices in device memory to Hopper's copy engine. */
final class TensorMaps {
  /** Bytes, and alignment, of a {@code CUtensorMap}. */
  static final int BYTES = 128;

  private static final int ALIGNMENT = 64;

  // Of cuda.h.
  private static final int BFLOAT16 = 9;
  private static final int NO_INTERLEAVE = 0;
  private static final int SWIZZLE_128_BYTES = 3;
  private static final int L2_PROMOTION_256_BYTES = 3;
  private static final int FILL_ZEROS = 0;

  private static final MethodHandle ENCODE =
      DriverCalls.bind(
          "cuTensorMapEncodeTiled",
          FunctionDescriptor.of(
              JAVA_INT, ADDRESS, JAVA_INT, JAVA_INT, JAVA_LONG, ADDRESS, ADDRESS, ADDRESS, ADDRESS,
              JAVA_INT, JAVA_INT, JAVA_INT, JAVA_INT));

  private final CudaDevice device;

  TensorMaps(CudaDevice device) {
    this.device = device;
  }

  /**
   * A map whose boxes are 64 elements wide, swizzled by 128 bytes.
   *
   * @param address a multiple of 16
   * @param sizes elements per dimension, innermost first
   * @param strides elements from an index to the next in each dimension but the innermost,
   *     multiples of 8
   * @param box elements of a box per dimension
   */
  MemorySegment encode(long address, long[] sizes, long[] strides, int[] box) {
    MemorySegment map = Arena.ofAuto().allocate(BYTES, ALIGNMENT);
    try (Arena arena = Arena.ofConfined()) {
      long[] bytes = new long[strides.length];
      for (int i = 0; i < bytes.length; i++) {
        bytes[i] = Short.BYTES * strides[i];
      }
      int[] ones = new int[sizes.length];
      Arrays.fill(ones, 1);
      int status =
          (int)
              ENCODE.invokeExact(
                  map,
                  BFLOAT16,
                  sizes.length,
                  address,
                  arena.allocateFrom(JAVA_LONG, sizes),
                  arena.allocateFrom(JAVA_LONG, bytes),
                  arena.allocateFrom(JAVA_INT, box),
                  arena.allocateFrom(JAVA_INT, ones),
                  NO_INTERLEAVE,
                  SWIZZLE_128_BYTES,
                  L2_PROMOTION_256_BYTES,
                  FILL_ZEROS);
      device.check(status, "cuTensorMapEncodeTiled(%s)".formatted(Arrays.toString(sizes)));
    } catch (RuntimeException e) {
      throw e;
    } catch (Throwable e) {
      throw new IllegalStateException("cuTensorMapEncodeTiled could not be called", e);
    }
    return map;
  }
}
