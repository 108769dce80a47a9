package io.infinilora.backend;

/** Random numbers of the draws, the same on every backend. */
public final class Draws {
  /** Weyl increment of SplitMix64. */
  private static final long GOLDEN = 0x9E3779B97F4A7C15L;

  private Draws() {}

  /**
   * A number in [0, 1) from (seed, step) alone: SplitMix64 (Steele, Lea, Flood 2014) used as a
   * counter-based generator. The seed is finalised once before the step is added, so that
   * neighbouring seeds do not share shifted sequences.
   */
  public static double uniform(long seed, int step) {
    return (mix(mix(seed) + GOLDEN * (step + 1L)) >>> 11) * 0x1p-53;
  }

  private static long mix(long state) {
    long z = (state ^ (state >>> 30)) * 0xBF58476D1CE4E5B9L;
    z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
    return z ^ (z >>> 31);
  }
}
