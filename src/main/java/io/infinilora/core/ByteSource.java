package io.infinilora.core;

import java.lang.foreign.MemorySegment;

/** Bytes that can be read to any memory. Thread-safe. */
public interface ByteSource {

  /**
   * Fills memory with the bytes from {@code at} on. The thread must not be interrupted meanwhile:
   * that ends reading for all.
   *
   * @throws InfiniLoraException naming what is read if it cannot be, or not as much
   */
  void read(long at, MemorySegment into);
}
