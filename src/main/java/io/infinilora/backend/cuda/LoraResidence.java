package io.infinilora.backend.cuda;

/** Whose memory adapter weights are in. */
sealed interface LoraResidence permits OwnLoraPages, CudaLoraLayer {

  /** False once the memory may hold something else. */
  boolean alive();
}
