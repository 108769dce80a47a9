package io.infinilora.config;

/** Which idle adapter leaves device memory first. */
public enum Eviction {
  /** The one whose last use is longest ago. */
  LRU,
  /** The one least popular, more so if it is quick to bring back. */
  GREEDY_DUAL
}
