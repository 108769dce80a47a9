package io.infinilora.verify;

import io.infinilora.core.TensorView;
import io.infinilora.engine.PromptObserver;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.BitSet;

/**
 * Compares a prompt's logits with expected ones as they come. Driver thread, then one reader after
 * the request's end.
 */
final class LogitCheck implements PromptObserver {
  private static final ValueLayout.OfFloat FLOAT =
      ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final TensorView expected;
  private final int firstPosition;
  private final BitSet seen = new BitSet();
  private double worst;
  private double squaredError;
  private double squaredNorm;

  /**
   * A check.
   *
   * @param expected float32 {@code [positions, vocab]}
   * @param firstPosition prompt position of its first row
   */
  LogitCheck(TensorView expected, int firstPosition) {
    this.expected = expected;
    this.firstPosition = firstPosition;
  }

  @Override
  public void logits(int position, float[] logits) {
    int row = position - firstPosition;
    if (row < 0) {
      return;
    }
    seen.set(row);
    long base = (long) row * expected.cols();
    for (int i = 0; i < expected.cols(); i++) {
      double reference = expected.data().getAtIndex(FLOAT, base + i);
      double difference = Math.abs(logits[i] - reference);
      squaredError += difference * difference;
      squaredNorm += reference * reference;
      // Written so that a NaN counts as the worst error there is.
      worst = difference <= worst ? worst : difference;
      if (Double.isNaN(difference)) {
        worst = Double.POSITIVE_INFINITY;
      }
    }
  }

  /** Sum of squared differences; infinite if a position is missing. */
  double squaredError() {
    return seen.cardinality() == expected.rows() ? squaredError : Double.POSITIVE_INFINITY;
  }

  /** Sum of squares of the expected logits. */
  double squaredNorm() {
    return squaredNorm;
  }

  /** Largest absolute difference; infinite if a position is missing. */
  double worst() {
    return seen.cardinality() == expected.rows() ? worst : Double.POSITIVE_INFINITY;
  }
}
