package io.infinilora.verify;

/** What a computation may differ by from the reference, which is float32. */
enum Arithmetic {
  /** Every logit within 2e-3, every token the same. */
  FLOAT32,
  /**
   * Activations are rounded to bf16: everywhere on a GPU, on the CPU those that go to the LoRA
   * server of another process, and deltas on their way back. The error's norm over all logits of
   * one adapter choice is within 2e-2 of theirs; tokens are the same up to the first step whose
   * best two logits are closer than 0.25, and not compared for mixtures of experts, where rounding
   * may choose another expert.
   */
  BF16;

  /** Largest absolute error of a logit in float32. */
  static final double ABSOLUTE = 2e-3;

  /** Largest relative error of the norm with rows in bf16. */
  static final double RELATIVE = 2e-2;

  private static final double SAFE_GAP = 0.25;

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
