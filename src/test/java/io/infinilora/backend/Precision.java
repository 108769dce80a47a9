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
    double weighted(double expected, double magnitude) {
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
      return 0x1p-7 * Math.abs(expected) + 0x1p-9 * most;
    }

    @Override
    double weighted(double expected, double magnitude) {
      // bf16 has 8 significant bits, so that rounding changes a number by up to 2^-8 of itself.
      // Either way rounds each weight before it is multiplied, which changes the sum by up to 2^-8
      // of the magnitude, and then the result. The two differ since they round weights relative to
      // maxima of other keys. Sums in float32 are exact in comparison.
      return 2 * 0x1p-8 * (magnitude + Math.abs(expected)) * (1 + 0x1p-8);
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

  /**
   * Largest difference between two ways to attend to the same.
   *
   * @param magnitude sum of the values' magnitudes, weighted like them
   */
  abstract double weighted(double expected, double magnitude);

  /** The value as a tensor holds it. */
  public abstract double rounded(double value);
}
