package io.infinilora.backend.cuda;

import jcuda.driver.CUfunction;
import jcuda.driver.CUfunction_attribute;
import jcuda.driver.JCudaDriver;

/** A function of a loaded module. Immutable but for its limit of shared memory. */
final class Kernel {
  /** Dynamic shared memory that needs no opting in. */
  private static final int PLAIN_SHARED = 48 << 10;

  private final CudaDevice device;
  private final String name;
  private final Handle function;

  /** Lets its address be read. */
  static final class Handle extends CUfunction {
    long address() {
      return getNativePointer();
    }
  }

  Kernel(CudaDevice device, String name, Handle function) {
    this.device = device;
    this.name = name;
    this.function = function;
  }

  String name() {
    return name;
  }

  /** The driver's handle. */
  long handle() {
    return function.address();
  }

  /** For launches that are not part of a step; see {@link Launch} for those. */
  CUfunction function() {
    return function;
  }

  /** Ten times the compute capability that its PTX was made for. */
  int ptxVersion() {
    int[] version = new int[1];
    device.check(
        JCudaDriver.cuFuncGetAttribute(
            version, CUfunction_attribute.CU_FUNC_ATTRIBUTE_PTX_VERSION, function),
        "cuFuncGetAttribute(" + name + ")");
    return version[0];
  }

  /** Allows launches with up to so much dynamic shared memory. */
  Kernel sharedLimit(int bytes) {
    if (bytes > PLAIN_SHARED) {
      if (bytes > device.sharedMemory()) {
        throw new IllegalStateException(
            "%s needs %d bytes of shared memory, the device has %d"
                .formatted(name, bytes, device.sharedMemory()));
      }
      device.check(
          JCudaDriver.cuFuncSetAttribute(
              function,
              CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES,
              bytes),
          "cuFuncSetAttribute(%s, %d bytes of shared memory)".formatted(name, bytes));
    }
    return this;
  }
}
