package io.infinilora.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.within;

import io.infinilora.core.TokenLogprobs;
import java.util.List;
import org.assertj.core.data.Offset;
import org.junit.jupiter.api.Test;

class PromptLogprobsTest {
  private static final Offset<Float> TOLERANCE = within(1e-6f);

  @Test
  void reportsEachTokenUnderTheLogitsOfThePositionBefore() {
    PromptLogprobs collected = new PromptLogprobs(new int[] {2, 0, 1}, 2);
    // Softmax of (ln 1, ln 2, ln 5) is 1/8, 2/8, 5/8.
    float[] logits = {0f, (float) Math.log(2), (float) Math.log(5)};
    collected.logits(0, logits);
    collected.logits(1, logits);
    collected.logits(2, logits); // Nothing follows the last position.

    List<TokenLogprobs> logprobs = collected.logprobs();

    assertThat(logprobs).hasSize(3);
    assertThat(logprobs.get(0)).isNull();
    assertThat(logprobs.get(1).logprob()).isCloseTo((float) Math.log(1 / 8.0), TOLERANCE);
    assertThat(logprobs.get(2).logprob()).isCloseTo((float) Math.log(2 / 8.0), TOLERANCE);
    assertThat(logprobs.get(1).topTokens()).containsExactly(2, 1);
    assertThat(logprobs.get(1).topLogprobs()[0]).isCloseTo((float) Math.log(5 / 8.0), TOLERANCE);
  }

  @Test
  void tiesGoToTheLowerToken() {
    PromptLogprobs collected = new PromptLogprobs(new int[] {0, 0}, 3);
    collected.logits(0, new float[] {1, 3, 3, 2});

    assertThat(collected.logprobs().get(1).topTokens()).containsExactly(1, 2, 3);
  }

  @Test
  void largeLogitsDoNotOverflow() {
    PromptLogprobs collected = new PromptLogprobs(new int[] {0, 1}, 0);
    collected.logits(0, new float[] {1000, 1000});

    assertThat(collected.logprobs().get(1).logprob()).isCloseTo((float) Math.log(0.5), TOLERANCE);
    assertThat(collected.logprobs().get(1).topTokens()).isEmpty();
  }
}
