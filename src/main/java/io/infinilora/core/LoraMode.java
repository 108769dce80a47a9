package io.infinilora.core;

/** Where low-rank products are computed. The output is the same in both executing modes. */
public enum LoraMode {
  /** No adapters; requests that name one are refused. */
  NONE,
  /** On the base model's own stream, after each base projection (the S-LoRA-style baseline). */
  COUPLED,
  /** In the LoRA Server, beside the base projection. */
  DISAGGREGATED
}
