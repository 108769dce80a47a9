package io.infinilora.backend.cpu;

/** Whose memory adapter weights are in. */
sealed interface LoraResidence permits PackedPages, CpuLoraLayer {

  /** False once the memory may hold something else. */
  boolean alive();
}
