package io.infinilora.backend.cuda;

import java.util.concurrent.atomic.AtomicBoolean;

/** Memory of a device. Thread-safe. */
final class DeviceMemory implements AutoCloseable {
  private final CudaDevice device;
  private final long address;
  private final long bytes;
  private final String what;
  private final AtomicBoolean closed = new AtomicBoolean();

  DeviceMemory(CudaDevice device, long address, long bytes, String what) {
    this.device = device;
    this.address = address;
    this.bytes = bytes;
    this.what = what;
  }

  long address() {
    return address;
  }

  long bytes() {
    return bytes;
  }

  /** What it is for, as the device counts it. */
  String what() {
    return what;
  }

  /** Frees it; no stream may use it any more. */
  @Override
  public void close() {
    if (closed.compareAndSet(false, true)) {
      device.free(this);
    }
  }
}
