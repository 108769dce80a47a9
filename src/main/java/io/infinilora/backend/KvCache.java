package io.infinilora.backend;

/** Keys and values of all layers, in blocks of {@link #blockSize} positions. */
public interface KvCache {
  /** Number of blocks. */
  int blocks();

  /** Positions per block. */
  int blockSize();

  /** Bytes of all layers' keys and values of one block. */
  long bytesPerBlock();
}
