package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import jcuda.Pointer;

/** An address in host memory, as JCuda wants it. */
final class HostPointer extends Pointer {

  /** To be filled by an allocation. */
  HostPointer() {}

  HostPointer(MemorySegment segment) {
    super(segment.address());
  }

  long address() {
    return getNativePointer() + getByteOffset();
  }
}
