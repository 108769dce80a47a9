package io.infinilora.backend.cuda;

import jcuda.driver.CUdeviceptr;

/** An address in device memory, as JCuda wants it. */
final class DevicePointer extends CUdeviceptr {
  private static final CUdeviceptr NULL = new CUdeviceptr();

  /** To be filled by an allocation. */
  DevicePointer() {}

  DevicePointer(long address) {
    super(NULL, address);
  }

  long address() {
    return getNativePointer() + getByteOffset();
  }
}
