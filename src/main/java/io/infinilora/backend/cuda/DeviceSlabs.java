package io.infinilora.backend.cuda;

import java.util.function.LongUnaryOperator;

/**
 * Device memory in small pieces that live as long as the device: the driver is asked once for many
 * of them, since each allocation has to be zeroed and waited for. Thread-safe.
 */
final class DeviceSlabs {
  static final long SLAB_BYTES = 1L << 20;

  /** Larger pieces get memory of their own, lest much of a slab stays empty. */
  private static final long MOST_BYTES = SLAB_BYTES / 4;

  /** As the driver aligns its own pieces. */
  private static final long ALIGNMENT = 256;

  private final LongUnaryOperator source;
  private long next;
  private long left;

  /**
   * @param source device address of so many zeroed bytes, aligned to 256
   */
  DeviceSlabs(LongUnaryOperator source) {
    this.source = source;
  }

  /** Address of zeroed memory, aligned to 256 bytes. */
  synchronized long allocate(long bytes) {
    if (bytes > MOST_BYTES) {
      return source.applyAsLong(bytes);
    }
    long size = Math.ceilDiv(bytes, ALIGNMENT) * ALIGNMENT;
    if (size > left) {
      next = source.applyAsLong(SLAB_BYTES);
      left = SLAB_BYTES;
    }
    long address = next;
    next += size;
    left -= size;
    return address;
  }
}
