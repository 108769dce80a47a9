package io.infinilora.backend;

/** A float32 parameter vector in device memory: norm scales, biases, sinks. */
public interface Vec {
  /** Elements. */
  int size();
}
