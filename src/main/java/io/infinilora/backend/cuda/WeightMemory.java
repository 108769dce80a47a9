package io.infinilora.backend.cuda;

import java.util.function.LongUnaryOperator;

/**
 * Device memory for matrices, of any contents, that lives as long as the device. What is expected
 * is asked for at once: the driver takes half a millisecond per piece, and all copies wait
 * meanwhile. Thread-safe.
 */
final class WeightMemory {
  /** As the driver aligns its own pieces. */
  private static final long ALIGNMENT = 256;

  private final LongUnaryOperator source;
  private long next;
  private long left;

  /**
   * @param source device address of so many bytes, aligned to 256
   */
  WeightMemory(LongUnaryOperator source) {
    this.source = source;
  }

  /** Sets so many bytes aside for what will be allocated; nothing remains of an earlier call. */
  synchronized void expect(long bytes) {
    next = source.applyAsLong(bytes);
    left = bytes;
  }

  /** Address of memory aligned to 256 bytes: its own if it is more than was expected. */
  synchronized long allocate(long bytes) {
    long size = Math.ceilDiv(bytes, ALIGNMENT) * ALIGNMENT;
    if (bytes > left) {
      return source.applyAsLong(bytes);
    }
    long address = next;
    next += size;
    left -= Math.min(size, left);
    return address;
  }
}
