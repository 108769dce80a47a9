package io.infinilora.core;

/**
 * Figures of a cache of adapters in device memory since its start.
 *
 * @param claims claims so far
 * @param immediate those that were admissible at once
 * @param loads loads that were started
 * @param cancelled loads that were given up because nobody waited any more
 * @param failed loads that failed
 * @param evictions adapters that left for another one
 * @param drains adapters whose holders were asked to let go
 */
public record AdapterCacheStats(
    long claims,
    long immediate,
    long loads,
    long cancelled,
    long failed,
    long evictions,
    long drains) {

  /** Part of the claims that were admissible at once; 1 before the first. */
  public double immediateAdmissibilityRate() {
    return claims == 0 ? 1 : (double) immediate / claims;
  }
}
