package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class RoutingPlanTest {
  @ParameterizedTest
  @CsvSource({"1, 1, 1", "8, 128, 1", "1024, 4, 1", "1025, 4, 2", "65536, 128, 64"})
  void partsFollowEachOther(int routed, int experts, int blocks) {
    RoutingPlan plan = new RoutingPlan(4096, routed, experts);
    assertThat(RoutingPlan.blocks(routed)).isEqualTo(blocks);
    assertThat(plan.starts()).isEqualTo(4096);
    assertThat(plan.active()).isEqualTo(plan.starts() + 4L * (experts + 1));
    assertThat(plan.counts()).isEqualTo(plan.active() + 4L * (experts + 1));
    assertThat(plan.sorted()).isEqualTo(plan.counts() + 4L * blocks * experts);
    assertThat(4096 + RoutingPlan.bytes(routed, experts)).isEqualTo(plan.sorted() + 4L * routed);
  }
}
