package io.infinilora.core;

import java.util.List;

/**
 * Rotary position embedding in the half-split form (element {@code i} of a head turns with element
 * {@code i + dim/2}).
 *
 * @param theta base of the geometric frequency series
 * @param scaling how the frequencies are stretched for long contexts
 */
public record RopeSpec(double theta, Scaling scaling) {

  /** A change of the frequencies. */
  public sealed interface Scaling {}

  /** Frequencies as they are. */
  public record None() implements Scaling {}

  /** All frequencies divided by {@code factor}. */
  public record Linear(double factor) implements Scaling {}

  /**
   * Llama 3.1: long wavelengths are divided by {@code factor}, short ones kept, the rest
   * interpolated.
   *
   * @param factor stretch of the longest wavelengths
   * @param lowFreqFactor wavelengths above {@code original / low} are stretched fully
   * @param highFreqFactor wavelengths below {@code original / high} are kept
   * @param originalPositions context length of the pre-training
   */
  public record Llama3(
      double factor, double lowFreqFactor, double highFreqFactor, int originalPositions)
      implements Scaling {}

  /**
   * YaRN (Peng et al., arXiv 2309.00071), with the attention factor on cos and sin.
   *
   * @param factor stretch
   * @param betaFast rotations above which a frequency is kept
   * @param betaSlow rotations below which a frequency is fully stretched
   * @param originalPositions context length of the pre-training
   * @param attentionFactor multiplier of cos and sin; NaN for the default {@code 0.1 ln(factor) +
   *     1}
   * @param truncate whether the correction range is rounded to whole dimensions
   */
  public record Yarn(
      double factor,
      double betaFast,
      double betaSlow,
      int originalPositions,
      double attentionFactor,
      boolean truncate)
      implements Scaling {}

  /**
   * Each pair's frequency divided by its own factor, as GGUF files of Llama 3.1 and its kin store
   * their scaling.
   *
   * @param factors one positive divisor per pair, {@code headDim / 2} of them
   */
  public record Factors(List<Double> factors) implements Scaling {

    /** Copies the list. */
    public Factors {
      factors = List.copyOf(factors);
    }
  }

  /** The unscaled form. */
  public static RopeSpec plain(double theta) {
    return new RopeSpec(theta, new None());
  }

  /** Multiplier of cos and sin. */
  public double magnitude() {
    if (scaling instanceof Yarn y) {
      return Double.isNaN(y.attentionFactor())
          ? 0.1 * Math.log(y.factor()) + 1.0
          : y.attentionFactor();
    }
    return 1.0;
  }

  /** Radians per position of each of the {@code headDim / 2} pairs. */
  public double[] inverseFrequencies(int headDim) {
    int half = headDim / 2;
    double[] inv = new double[half];
    for (int i = 0; i < half; i++) {
      inv[i] = Math.pow(theta, -2.0 * i / headDim);
    }
    switch (scaling) {
      case None n -> {}
      case Linear l -> {
        for (int i = 0; i < half; i++) {
          inv[i] /= l.factor();
        }
      }
      case Factors f -> {
        if (f.factors().size() != half) {
          throw new IllegalArgumentException(
              f.factors().size() + " rope factors for " + half + " pairs");
        }
        for (int i = 0; i < half; i++) {
          inv[i] /= f.factors().get(i);
        }
      }
      case Llama3 l -> scaleLlama3(inv, l);
      case Yarn y -> scaleYarn(inv, headDim, y);
    }
    return inv;
  }

  private static void scaleLlama3(double[] inv, Llama3 l) {
    double longest = l.originalPositions() / l.lowFreqFactor();
    double shortest = l.originalPositions() / l.highFreqFactor();
    for (int i = 0; i < inv.length; i++) {
      double wavelength = 2 * Math.PI / inv[i];
      if (wavelength > longest) {
        inv[i] /= l.factor();
      } else if (wavelength > shortest) {
        double smooth =
            (l.originalPositions() / wavelength - l.lowFreqFactor())
                / (l.highFreqFactor() - l.lowFreqFactor());
        inv[i] = (1 - smooth) * inv[i] / l.factor() + smooth * inv[i];
      }
    }
  }

  private void scaleYarn(double[] inv, int headDim, Yarn y) {
    double low = correctionDim(y.betaFast(), headDim, y.originalPositions());
    double high = correctionDim(y.betaSlow(), headDim, y.originalPositions());
    if (y.truncate()) {
      low = Math.floor(low);
      high = Math.ceil(high);
    }
    low = Math.max(low, 0);
    high = Math.min(high, headDim - 1.0);
    if (low == high) {
      high += 0.001; // the ramp must have a slope
    }
    for (int i = 0; i < inv.length; i++) {
      double ramp = Math.clamp((i - low) / (high - low), 0.0, 1.0);
      inv[i] = inv[i] / y.factor() * ramp + inv[i] * (1 - ramp);
    }
  }

  /** The dimension at which a head turns {@code rotations} times within the original context. */
  private double correctionDim(double rotations, int headDim, int positions) {
    return headDim * Math.log(positions / (rotations * 2 * Math.PI)) / (2 * Math.log(theta));
  }
}
