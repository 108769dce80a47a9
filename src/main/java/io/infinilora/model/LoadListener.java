package io.infinilora.model;

/** Told how the loading of a model goes; by one loading thread at a time, and must not block. */
@FunctionalInterface
public interface LoadListener {

  /** Hears nothing. */
  LoadListener NONE = (done, total) -> {};

  /** So many of the layers' weights are on the device. */
  void loaded(int done, int total);
}
