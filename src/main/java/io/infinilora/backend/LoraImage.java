package io.infinilora.backend;

/**
 * One layer of an adapter in host memory, packed as the device wants it, so that loading it is
 * copying pages. Made by {@link Backend#loraImage}; immutable.
 */
public interface LoraImage extends AutoCloseable {

  /** Device pages that it takes. */
  int pages();

  /** Bytes of host memory that it holds. */
  long bytes();

  /** Frees the host memory. */
  @Override
  void close();
}
