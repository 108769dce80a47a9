package io.infinilora.backend.cpu;

import java.util.Arrays;

/**
 * The tokens of a row by logit, highest first, ties by lower id. Sorts lazily: first only what lies
 * close to the maximum, further down when asked for, since a draw seldom needs more than a few
 * hundred of the vocabulary.
 */
final class RankedLogits {
  private final float[] values;
  private final float most;

  /** Sorted keys: inverted order of the logit in the high half, token in the low half. */
  private long[] ranked = new long[0];

  private float depth = 4;

  /**
   * @param logits row without NaN
   * @param most its maximum
   */
  RankedLogits(long logits, int vocab, float most) {
    this.values = new float[vocab];
    this.most = most;
    for (int i = 0; i < vocab; i++) {
      values[i] = Memory.get(logits + 4L * i);
    }
  }

  /** Token of a rank; 0 is the best. */
  int token(int rank) {
    while (rank >= ranked.length) {
      extend();
    }
    return (int) ranked[rank];
  }

  /** Its logit. */
  float logit(int rank) {
    return values[token(rank)];
  }

  private void extend() {
    float least = depth > 256 ? Float.NEGATIVE_INFINITY : most - depth;
    depth *= 2;
    long[] keys = new long[values.length];
    int n = 0;
    for (int i = 0; i < values.length; i++) {
      if (values[i] >= least) {
        keys[n++] = (long) ~ordered(values[i]) << 32 | i;
      }
    }
    ranked = Arrays.copyOf(keys, n);
    Arrays.sort(ranked);
  }

  /** An int that compares like the float; both zeros are equal. */
  private static int ordered(float value) {
    int bits = Float.floatToRawIntBits(value + 0f);
    return bits ^ (bits >> 31 & 0x7FFFFFFF);
  }
}
