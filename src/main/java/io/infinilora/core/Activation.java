package io.infinilora.core;

/** Gated activations of an MLP: what combines the gate and up projections. */
public enum Activation {
  /** {@code silu(gate) * up}. */
  SWIGLU,
  /**
   * {@code (up + 1) * gate * sigmoid(1.702 gate)} with gate clamped from above at 7 and up to +-7
   * (gpt_oss).
   */
  SWIGLU_CLAMPED
}
