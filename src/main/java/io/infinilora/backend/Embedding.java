package io.infinilora.backend;

/**
 * An embedding table {@code [vocab, hidden]} in device memory or, on the CPU, in the mapped file.
 */
public interface Embedding {
  /** Rows. */
  int vocab();

  /** Columns. */
  int hidden();
}
