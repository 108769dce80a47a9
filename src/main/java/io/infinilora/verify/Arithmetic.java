package io.infinilora.verify;

/** What a computation may differ by from the reference, which is float32. */
enum Arithmetic {
  /** Every logit within 2e-3, every token the same. */
  FLOAT32,
  /**
   * On the CPU, activations are rounded to bf16 on their way to the LoRA server of another process,
   * and deltas on their way back. The error's norm over all logits of one adapter choice is within
   * 2e-2 of theirs; tokens are the same up to the first step whose best two logits are closer than
   * 0.25, and not compared for mixtures of experts, where rounding may choose another expert. In a
   * batch a request gives the same tokens as alone.
   */
  BF16_ROWS,
  /**
   * On a GPU, all activations are bf16. Likewise, but few and many rows take different kernels, so
   * that a batch, too, may differ by rounding.
   */
  BF16;

  /** Largest absolute error of a logit in float32. */
  static final double ABSOLUTE = 2e-3;

  /** Largest relative error of the norm with rows in bf16. */
  static final double RELATIVE = 2e-2;

  private static final double SAFE_GAP = 0.25;

  /** Whether a request's results are the same bits alone and in any batch. */
  boolean invariant() {
    return this != BF16;
  }

  /**
   * How many tokens of two runs must be the same.
   *
   * @param gaps distance of the best two logits at each step of one of them
   */
  static int comparable(float[] gaps, boolean experts) {
    int steps = 0;
    while (!experts && steps < gaps.length && gaps[steps] >= SAFE_GAP) {
      steps++;
    }
    return steps;
  }

  /** How many of a case's tokens must be as expected. */
  int comparable(Fixture.Case c, boolean experts) {
    if (this == FLOAT32) {
      return c.greedy().length;
    }
    if (experts) {
      return 0;
    }
    int steps = 0;
    while (steps < c.gaps().length && c.gaps()[steps] >= SAFE_GAP) {
      steps++;
    }
    return steps;
  }
}
