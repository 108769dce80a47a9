package io.infinilora.backend;

/**
 * Device memory for adapters: pages of one size, so that adapters of any rank come and go without
 * fragmentation. Thread-safe.
 */
public interface LoraMemory extends AutoCloseable {

  /** Bytes of a page. */
  long pageBytes();

  /** Number of pages. */
  int pages();

  /** Pages that hold nothing. */
  int freePages();

  /**
   * Copies a layer into free pages. Blocks until it is complete; called by a loader thread, never
   * by an event loop.
   *
   * @throws IllegalStateException if fewer than {@link LoraImage#pages} pages are free: who calls
   *     must have counted
   */
  LoraLayer load(LoraImage image);

  /** Gives a layer's pages back. No stream may use its weights any more. */
  void free(LoraLayer layer);

  @Override
  void close();
}
