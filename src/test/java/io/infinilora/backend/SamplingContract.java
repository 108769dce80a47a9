package io.infinilora.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.reference.ReferenceSampler;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.SamplingParams;
import io.infinilora.core.TokenLogprobs;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** The order of operations of {@link SamplingParams}, and draws with the right frequencies. */
public abstract class SamplingContract extends LoraContract {

  /** Parameters with everything off but what the tests set. */
  private static final class P {
    double temperature = 1;
    double topP = 1;
    int topK;
    double minP;
    double repetition = 1;
    double presence;
    double frequency;
    long seed = 3;
    Map<Integer, Double> bias = Map.of();
    int logprobs = -1;

    SamplingParams build() {
      return new SamplingParams(
          temperature,
          topP,
          topK,
          minP,
          repetition,
          presence,
          frequency,
          seed,
          bias,
          List.of(),
          1,
          false,
          logprobs);
    }
  }

  private SampleResult sample(double[] logits, P p, int step, int[] history, int promptLength) {
    SampleRow row = new SampleRow(p.build(), step, history, promptLength, history.length);
    return ops.sample(uploadWide(new double[][] {logits}), List.of(row)).getFirst();
  }

  private SampleResult sample(double[] logits, P p) {
    return sample(logits, p, 0, new int[0], 0);
  }

  /** How often each token is drawn in 4000 steps. */
  private double[] frequencies(double[] logits, P p) {
    int n = 4000;
    double[][] rows = new double[n][];
    List<SampleRow> samples = new ArrayList<>();
    for (int i = 0; i < n; i++) {
      rows[i] = logits;
      samples.add(new SampleRow(p.build(), i, new int[0], 0, 0));
    }
    double[] counts = new double[logits.length];
    for (SampleResult r : ops.sample(uploadWide(rows), samples)) {
      counts[r.token()] += 1.0 / n;
    }
    return counts;
  }

  @Test
  void greedyTakesTheLowestOfTheBest() {
    double[] logits = data.matrix(1, 999, 1)[0];
    logits[400] = 9;
    logits[713] = 9;
    P p = new P();
    p.temperature = 0;
    assertThat(sample(logits, p).token()).isEqualTo(400);
    logits[998] = 10;
    assertThat(sample(logits, p).token()).isEqualTo(998);
  }

  @Test
  void biasAndPenaltiesComeBeforeTheChoice() {
    double[] logits = {5, 4, 3, -1, -2};
    P p = new P();
    p.temperature = 0;
    p.bias = Map.of(3, 10.0);
    assertThat(sample(logits, p).token()).isEqualTo(3);
    p.bias = Map.of();
    p.repetition = 2;
    // Prompt and output count: 5/2 and 4/2 fall behind 3.
    assertThat(sample(logits, p, 1, new int[] {0, 1}, 1).token()).isEqualTo(2);
    p.repetition = 1;
    p.presence = 1.5;
    // Only the output counts: 4 - 1.5 does not matter, 5 is from the prompt.
    assertThat(sample(logits, p, 1, new int[] {0, 1}, 1).token()).isEqualTo(0);
    assertThat(sample(logits, p, 1, new int[] {1, 0}, 1).token()).isEqualTo(1);
    p.presence = 0;
    p.frequency = 0.6;
    assertThat(sample(logits, p, 1, new int[] {0}, 0).token()).isEqualTo(0);
    assertThat(sample(logits, p, 2, new int[] {0, 0}, 0).token()).isEqualTo(1);
    double[] negative = {-1, -1.5};
    p.frequency = 0;
    p.repetition = 2;
    assertThat(sample(negative, p, 0, new int[] {0}, 1).token()).isEqualTo(1);
  }

  @Test
  void drawsDependOnSeedAndStepOnly() {
    double[] logits = data.matrix(1, 500, 1)[0];
    P p = new P();
    int first = sample(logits, p, 7, new int[0], 0).token();
    int alone = sample(logits, p, 7, new int[] {1, 2, 3}, 2).token();
    assertThat(alone).isEqualTo(first);
    List<Integer> bySteps = new ArrayList<>();
    for (int step = 0; step < 8; step++) {
      bySteps.add(sample(logits, p, step, new int[0], 0).token());
    }
    assertThat(bySteps).doesNotHaveDuplicates();
    p.seed = 4;
    assertThat(sample(logits, p, 7, new int[0], 0).token()).isNotEqualTo(first);
  }

  @Test
  void drawsFollowTheDistribution() {
    double[] logits = {Math.log(0.1), Math.log(0.5), Math.log(0.3), Math.log(0.1)};
    Offset<Double> near = Offset.offset(0.03);
    double[] plain = frequencies(logits, new P());
    assertThat(plain[0]).isCloseTo(0.1, near);
    assertThat(plain[1]).isCloseTo(0.5, near);
    assertThat(plain[2]).isCloseTo(0.3, near);
    P p = new P();
    p.temperature = 0.5;
    double[] sharp = frequencies(logits, p);
    assertThat(sharp[1]).isCloseTo(0.25 / 0.36, near);
    assertThat(sharp[2]).isCloseTo(0.09 / 0.36, near);
  }

  @Test
  void topKTopPAndMinPCutTheTail() {
    double[] logits = {Math.log(0.1), Math.log(0.5), Math.log(0.3), Math.log(0.1)};
    Offset<Double> near = Offset.offset(0.03);
    P k = new P();
    k.topK = 3;
    double[] three = frequencies(logits, k);
    // Of the two with 0.1 the lower id stays.
    assertThat(three[3]).isZero();
    assertThat(three[0]).isCloseTo(0.1 / 0.9, near);
    P top = new P();
    top.topP = 0.7;
    double[] nucleus = frequencies(logits, top);
    assertThat(nucleus[0] + nucleus[3]).isZero();
    assertThat(nucleus[1]).isCloseTo(0.5 / 0.8, near);
    P min = new P();
    min.minP = 0.5;
    double[] likely = frequencies(logits, min);
    assertThat(likely[0] + likely[3]).isZero();
    assertThat(likely[2]).isCloseTo(0.3 / 0.8, near);
    P one = new P();
    one.topP = 1e-9;
    assertThat(frequencies(logits, one)[1]).isCloseTo(1, Offset.offset(1e-9));
  }

  @Test
  void reportsLogprobsOfTheRawLogits() {
    double[] logits = new double[300];
    logits[10] = 4;
    logits[20] = 5;
    double sum = Math.log(298 + Math.exp(4) + Math.exp(5));
    P p = new P();
    p.temperature = 0;
    p.bias = Map.of(10, 2.0);
    p.logprobs = 3;
    SampleResult result = sample(logits, p);
    assertThat(result.token()).isEqualTo(10);
    TokenLogprobs l = result.logprobs();
    assertThat(l.logprob()).isCloseTo((float) (4 - sum), Offset.offset(1e-5f));
    assertThat(l.topTokens()).containsExactly(20, 10, 0);
    assertThat(l.topLogprobs()[0]).isCloseTo((float) (5 - sum), Offset.offset(1e-5f));
    p.logprobs = 0;
    assertThat(sample(logits, p).logprobs().topTokens()).isEmpty();
    p.logprobs = -1;
    assertThat(sample(logits, p).logprobs()).isNull();
  }

  /** Logits as models have them, and some as no model should. */
  private double[] logits(int shape, int vocab) {
    double[] x = data.matrix(1, vocab, shape == 1 ? 0.1 : 3)[0];
    for (int t = 0; t < vocab; t++) {
      switch (shape) {
        case 2 -> x[t] = Math.rint(x[t]); // Many are equal.
        case 3 -> x[t] = t % 20 == 0 ? x[t] : Double.NEGATIVE_INFINITY;
        case 4 -> x[t] = 1.5;
        case 5 -> x[t] = precision().rounded(x[t] - 500);
        default -> {}
      }
    }
    return x;
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 30, 1000, 16_385, 50_257})
  void choosesByTheBook(int vocab) {
    Random random = new Random(vocab);
    int n = vocab > 10_000 ? 60 : 300;
    double[][] logits = new double[n][];
    List<SampleRow> rows = new ArrayList<>();
    for (int i = 0; i < n; i++) {
      logits[i] = logits(i % 6, vocab);
      P p = new P();
      p.temperature = new double[] {0, 0.4, 0.8, 1, 1, 2}[random.nextInt(6)];
      p.topP = new double[] {1, 1, 0.3, 0.9, 0.99}[random.nextInt(5)];
      p.topK = new int[] {0, 0, 1, 20, 500}[random.nextInt(5)];
      p.minP = random.nextInt(4) == 0 ? 0.07 : 0;
      p.seed = random.nextLong();
      p.logprobs = random.nextInt(22) - 1;
      if (random.nextInt(3) == 0) {
        p.bias = Map.of(random.nextInt(vocab), 4.1);
      }
      if (random.nextInt(3) == 0) {
        p.repetition = 1.2;
        p.presence = 0.3;
        p.frequency = -0.4;
      }
      rows.add(new SampleRow(p.build(), i, random.ints(40, 0, vocab).toArray(), 15, 38));
    }
    List<SampleResult> results = ops.sample(uploadWide(logits), rows);
    for (int i = 0; i < n; i++) {
      ReferenceSampler expected = new ReferenceSampler(logits[i], rows.get(i));
      String what = "row " + i + ", " + rows.get(i).params();
      assertThat(results.get(i).token()).as(what).isEqualTo(expected.token());
      TokenLogprobs logprobs = results.get(i).logprobs();
      int alternatives = Math.min(vocab, rows.get(i).params().logprobs());
      if (alternatives < 0) {
        assertThat(logprobs).as(what).isNull();
        continue;
      }
      logprobClose(logprobs.logprob(), expected.logprob(results.get(i).token()), what);
      assertThat(logprobs.topTokens()).as(what).containsExactly(expected.top(alternatives));
      for (int j = 0; j < alternatives; j++) {
        double logprob = expected.logprob(logprobs.topTokens()[j]);
        logprobClose(logprobs.topLogprobs()[j], logprob, what);
      }
    }
  }

  private static void logprobClose(float actual, double expected, String what) {
    if (Double.isInfinite(expected)) {
      assertThat(actual).as(what).isEqualTo((float) expected);
    } else {
      assertThat((double) actual).as(what).isCloseTo(expected, Offset.offset(2e-5));
    }
  }

  @Test
  void naNIsAnErrorThatNamesTheRow() {
    double[][] logits = data.matrix(2, 40, 1);
    logits[1][17] = Double.NaN;
    SampleRow row = new SampleRow(SamplingParams.greedy(1), 0, new int[0], 0, 0);
    assertThatThrownBy(() -> ops.sample(uploadWide(logits), List.of(row, row)))
        .isInstanceOfSatisfying(
            InfiniLoraException.class, e -> assertThat(e.code()).isEqualTo(ErrorCode.INTERNAL))
        .hasMessageContaining("row 1");
  }
}
