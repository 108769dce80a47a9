package io.infinilora.config;

/** What computes. */
public enum DeviceKind {
  /** The machine's processor. */
  CPU,
  /** An NVIDIA GPU; it is an error if there is none that can be used. */
  CUDA,
  /** An NVIDIA GPU if one can be used, else the processor. */
  AUTO
}
