package io.infinilora.backend.cuda;

import java.lang.foreign.MemorySegment;
import java.util.ArrayList;
import java.util.List;

/**
 * Staging of small host arrays for operators that run at once: pinned memory and its twin on the
 * device, used in two halves. A half is used again when the stream has passed all that read it, so
 * an upload stays valid at least for the operator it is made for. The stream's thread only.
 */
final class UploadRing implements AutoCloseable {
  private static final long INITIAL_BYTES = 4L << 20;
  private static final int ALIGNMENT = 16;

  private final CudaStream stream;
  private final List<AutoCloseable> outgrown = new ArrayList<>();
  private PinnedMemory host;
  private DeviceMemory device;
  private StreamMark[] marks;
  private int half;
  private long offset;

  UploadRing(CudaStream stream) {
    this.stream = stream;
    allocate(INITIAL_BYTES);
  }

  private void allocate(long bytes) {
    host = stream.device().pinned(bytes);
    device = stream.device().allocate(bytes, "workspace");
    marks = new StreamMark[] {new StreamMark(stream), new StreamMark(stream)};
    half = 0;
    offset = 0;
  }

  private long halfBytes() {
    return device.bytes() / 2;
  }

  /**
   * Room for an upload.
   *
   * @return offset for {@link #host} and {@link #send}
   */
  long reserve(long bytes) {
    long size = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (size > halfBytes()) {
      grow(size);
    }
    if (offset + size > halfBytes()) {
      marks[half].record();
      half = 1 - half;
      marks[half].await();
      offset = 0;
    }
    long at = half * halfBytes() + offset;
    offset += size;
    return at;
  }

  private void grow(long size) {
    // What was uploaded may still be read.
    outgrown.add(host);
    outgrown.add(device);
    outgrown.add(marks[0]);
    outgrown.add(marks[1]);
    allocate(Long.highestOneBit(size) * 4);
  }

  /** Where the upload is to be written. */
  MemorySegment host(long at, long bytes) {
    return host.segment().asSlice(at, bytes);
  }

  /** Copies it in the stream's order; returns where it will be on the device. */
  long send(long at, long bytes) {
    stream.copyToDevice(host.address() + at, device.address() + at, bytes);
    return device.address() + at;
  }

  @Override
  public void close() {
    outgrown.add(host);
    outgrown.add(device);
    outgrown.add(marks[0]);
    outgrown.add(marks[1]);
    for (AutoCloseable part : outgrown) {
      try {
        part.close();
      } catch (RuntimeException e) {
        throw e;
      } catch (Exception e) {
        throw new IllegalStateException(e);
      }
    }
  }
}
