package io.infinilora.backend;

/** What a backend's activations are, which decides how close its results are to the oracle's. */
public enum Precision {
  FLOAT32 {
    @Override
    double tolerance(double expected, int length, double magnitude) {
      return 2e-7 * magnitude * (4 + Math.sqrt(length)) * 4 + 1e-6 * Math.abs(expected);
    }

    @Override
    double alike(double expected, double most) {
      return 0;
    }

    @Override
    public double rounded(double value) {
      return (float) value;
    }
  },

  /** Activations and weights in bf16, sums in float32. */
  BF16 {
    @Override
    double tolerance(double expected, int length, double magnitude) {
      // Weights, inputs of inner products and results are each rounded to 2^-9 of themselves.
      return 0x1p-8 * (magnitude * (1 + Math.sqrt(length) / 2) + Math.abs(expected));
    }

    @Override
    double alike(double expected, double most) {
      // Either way may be off by 2^-9 of what its terms had, in another direction.
      return 0x1p-7 * Math.abs(expected) + 0x1p-8 * most;
    }

    @Override
    public double rounded(double value) {
      if (Double.isNaN(value)) {
        return value;
      }
      int bits = Float.floatToRawIntBits((float) value);
      if (Float.isInfinite((float) value)) {
        return (float) value;
      }
      int even = (bits >>> 16) & 1;
      return Float.intBitsToFloat((bits + 0x7FFF + even) & 0xFFFF0000);
    }
  };

  /** Largest error of a sum of {@code length} products of magnitude {@code magnitude}. */
  abstract double tolerance(double expected, int length, double magnitude);

  /**
   * Largest difference between two ways to compute the same.
   *
   * @param most largest value of the row
   */
  abstract double alike(double expected, double most);

  /** The value as a tensor holds it. */
  public abstract double rounded(double value);
}
