package io.infinilora.backend;

/**
 * One or more linear layers {@code y_i = x W_i^T + b_i} that share their input, packed for the
 * device.
 */
public interface Projection {
  /** Number of outputs. */
  int outputs();

  /** Input features. */
  int in();

  /** Output features of output {@code i}. */
  int out(int i);

  /** Bytes that one pass over the weights reads. */
  long bytes();
}
