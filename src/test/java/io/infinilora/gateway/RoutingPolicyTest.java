package io.infinilora.gateway;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.gateway.RoutingPolicy.Candidate;
import java.util.List;
import java.util.stream.LongStream;
import org.junit.jupiter.api.Test;

class RoutingPolicyTest {
  private static Candidate base(int requests, double kvUsage, boolean usesAdapter) {
    return new Candidate(requests, 8, kvUsage, usesAdapter);
  }

  private static int choose(Candidate... candidates) {
    return RoutingPolicy.choose(List.of(candidates), 0);
  }

  @Test
  void theLeastLoadedIsChosen() {
    assertThat(choose(base(3, 0.1, false), base(2, 0.1, false))).isEqualTo(1);
    assertThat(choose(base(2, 0.1, false), base(2, 0.2, false))).isZero();
    // An almost full cache weighs as much as an almost full batch.
    assertThat(choose(base(7, 0.1, false), base(1, 0.9, false))).isZero();
  }

  @Test
  void requestsCountInBatchesOfTheBase() {
    assertThat(choose(new Candidate(4, 4, 0, false), new Candidate(6, 16, 0, false))).isEqualTo(1);
  }

  @Test
  void whoUsesTheAdapterWinsWithinTheSlack() {
    assertThat(choose(base(2, 0, false), base(4, 0, true))).isEqualTo(1);
    assertThat(choose(base(2, 0, false), base(5, 0, true))).isZero();
  }

  @Test
  void theLeastLoadedOfThoseWhoUseTheAdapterWins() {
    assertThat(choose(base(1, 0, false), base(3, 0, true), base(2, 0, true))).isEqualTo(2);
  }

  @Test
  void equalsTakeTurns() {
    List<Candidate> equals = List.of(base(1, 0, false), base(5, 0, false), base(1, 0, false));
    assertThat(LongStream.range(0, 6).mapToInt(turn -> RoutingPolicy.choose(equals, turn)))
        .containsExactly(0, 2, 0, 2, 0, 2);
  }
}
