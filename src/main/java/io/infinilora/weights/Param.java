package io.infinilora.weights;

/** The parameters of a decoder, independent of the names that a file format gives them. */
public enum Param {
  EMBEDDING,
  FINAL_NORM,
  LM_HEAD,
  ATTENTION_NORM,
  Q,
  K,
  V,
  O,
  Q_BIAS,
  K_BIAS,
  V_BIAS,
  O_BIAS,
  Q_NORM,
  K_NORM,
  MLP_NORM,
  SINKS,
  ROUTER,
  ROUTER_BIAS,
  /** Gate of the MLP, or of each expert. */
  GATE,
  /** Up, likewise. */
  UP,
  /** Down, likewise. */
  DOWN,
  GATE_BIAS,
  UP_BIAS,
  DOWN_BIAS
}
