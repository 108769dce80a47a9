package io.infinilora.backend;

/**
 * The experts of one or more linear layers that share their input, packed for the device: {@code
 * y_{i,e} = x W_{i,e}^T + b_{i,e}}.
 */
public interface ExpertProjection {
  /** Number of experts. */
  int experts();

  /** Number of outputs. */
  int outputs();

  /** Input features. */
  int in();

  /** Output features of output {@code i}. */
  int out(int i);

  /** Bytes of all experts. */
  long bytes();
}
