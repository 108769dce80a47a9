package io.infinilora.backend.cpu;

import java.lang.foreign.Arena;

/** Memory of one thread for the time of one task. Grows, and is freed with its stream. */
final class Scratch {
  private final Arena arena;
  private long address;
  private long size;

  Scratch(Arena arena) {
    this.arena = arena;
  }

  /** At least {@code bytes} bytes with unspecified content; what was handed out before is void. */
  long reserve(long bytes) {
    if (bytes > size) {
      // The old piece stays until the arena closes; doubling bounds the sum.
      size = Math.max(bytes, 2 * size);
      address = arena.allocate(size, Memory.ALIGNMENT).address();
    }
    return address;
  }
}
