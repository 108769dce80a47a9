package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.Draws;
import io.infinilora.backend.SampleRow;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

/** The words that {@code sampling.cu} reads. */
class SamplePlanTest {
  private static final int[] NONE = {};

  private final SamplePlan plan = new SamplePlan(100);

  private static SamplingParams params(
      double temperature, double minP, double repetition, Map<Integer, Double> bias) {
    return new SamplingParams(
        temperature, 0.9, 40, minP, repetition, 0.25, 0.125, 17, bias, List.of(), 1, false, 5);
  }

  private static SampleRow row(SamplingParams params) {
    return new SampleRow(params, 3, NONE, 0, 0);
  }

  private static int low(long word) {
    return (int) word;
  }

  private static int high(long word) {
    return (int) (word >> 32);
  }

  /** Counts and biases of one row's adjustments, by token. */
  private static Map<Integer, String> adjustments(SamplePlan plan, int params) {
    long[] words = plan.words();
    int first = high(words[SamplePlan.PARAMS_WORDS * params + 1]);
    int end = low(words[SamplePlan.PARAMS_WORDS * params + 2]);
    Map<Integer, String> found = new HashMap<>();
    for (int i = first; i < end; i++) {
      int at = SamplePlan.PARAMS_WORDS * plan.general() + SamplePlan.ADJUSTMENT_WORDS * i;
      found.put(low(words[at]), high(words[at]) + " " + Double.longBitsToDouble(words[at + 1]));
    }
    return found;
  }

  @Test
  void laysParametersOut() {
    plan.make(List.of(row(SamplingParams.greedy(1)), row(params(0.5, 0.25, 1.5, Map.of()))));
    long[] words = plan.words();
    assertThat(plan.general()).isEqualTo(1);
    assertThat(low(words[0])).as("row").isEqualTo(1);
    assertThat(high(words[0])).as("top-k").isEqualTo(40);
    assertThat(low(words[1])).as("logprobs").isEqualTo(5);
    assertThat(high(words[2])).as("greedy").isZero();
    assertThat(Float.intBitsToFloat(low(words[3]))).as("factor").isEqualTo(2f);
    assertThat(Double.longBitsToDouble(words[4])).as("top-p").isEqualTo(0.9);
    assertThat(Double.longBitsToDouble(words[5])).as("offset").isEqualTo(Math.log(0.25) / 2);
    assertThat(Double.longBitsToDouble(words[6])).isEqualTo(Draws.uniform(17, 3));
    assertThat(Double.longBitsToDouble(words[7])).as("repetition").isEqualTo(1.5);
    assertThat(Double.longBitsToDouble(words[8])).as("presence").isEqualTo(0.25);
    assertThat(Double.longBitsToDouble(words[9])).as("frequency").isEqualTo(0.125);
    assertThat(words[SamplePlan.PARAMS_WORDS]).as("the greedy row").isZero();
  }

  @Test
  void separatesRowsThatWantTheLargestOnly() {
    SampleRow plain = row(SamplingParams.greedy(1));
    SampleRow biased = row(params(0, 0, 1, Map.of(3, 1.0)));
    SampleRow reporting = row(SamplingParams.greedy(1).reporting(0));
    plan.make(List.of(biased, plain, plain, reporting, plain));
    long[] words = plan.words();
    assertThat(plan.greedy()).isEqualTo(3);
    assertThat(plan.general()).isEqualTo(2);
    assertThat(low(words[SamplePlan.PARAMS_WORDS])).as("row").isEqualTo(3);
    assertThat(high(words[2])).as("greedy").isEqualTo(1);
    assertThat(Double.longBitsToDouble(words[5])).isEqualTo(Double.NEGATIVE_INFINITY);
    int rows = words.length - 2;
    assertThat(low(words[rows])).isEqualTo(1);
    assertThat(high(words[rows])).isEqualTo(2);
    assertThat(low(words[rows + 1])).isEqualTo(4);
  }

  @Test
  void countsTheOutputAndMarksThePrompt() {
    int[] history = {7, 8, 7, 8, 9, 9, 1};
    SamplingParams p = params(1, 0, 1.1, Map.of(8, -2.0, 50, 4.0));
    plan.make(
        List.of(
            new SampleRow(p, 0, history, 3, 6), // The last token does not count.
            new SampleRow(p, 0, history, 0, 1)));
    assertThat(adjustments(plan, 0))
        .containsExactlyInAnyOrderEntriesOf(
            Map.of(7, "0 0.0", 8, "1 -2.0", 9, "2 0.0", 50, "-1 4.0"));
    assertThat(adjustments(plan, 1))
        .containsExactlyInAnyOrderEntriesOf(Map.of(7, "1 0.0", 8, "-1 -2.0", 50, "-1 4.0"));
    assertThat(plan.adjustments()).isEqualTo(7);
  }

  @Test
  void refusesTokensThatDoNotExistAndGoesOn() {
    SampleRow beyond = row(params(1, 0, 1, Map.of(5, 1.0, 100, 1.0)));
    assertThatThrownBy(() -> plan.make(List.of(beyond)))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageContaining("logit_bias names token 100, but there are 100");
    SampleRow before = new SampleRow(params(1, 0, 2, Map.of()), 0, new int[] {5, -1}, 2, 2);
    assertThatThrownBy(() -> plan.make(List.of(before)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("token -1 in the history");
    plan.make(List.of(new SampleRow(params(1, 0, 2, Map.of()), 0, new int[] {5}, 1, 1)));
    assertThat(adjustments(plan, 0)).containsExactly(Map.entry(5, "0 0.0"));
  }
}
