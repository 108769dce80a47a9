package io.infinilora.config;

/** Who is served first when not all can be. */
public enum Policy {
  /** First come, first served. */
  FCFS,
  /** Shortest expected job first, with a limit on how often a long one is overtaken. */
  SJF,
  /** Every adapter, and the base model, gets the same share while it has work. */
  ADAPTER_FAIR
}
