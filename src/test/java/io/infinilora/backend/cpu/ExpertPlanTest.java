package io.infinilora.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.reference.TestData;
import io.infinilora.core.DType;
import io.infinilora.core.WeightMatrix;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ExpertPlanTest {
  private static final int EXPERTS = 8;

  private static PackedExperts experts(CpuBackend backend, int panels) {
    TestData data = new TestData(1);
    List<List<WeightMatrix>> experts = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      WeightMatrix w = data.weights(DType.F32, panels * TileKernels.PANEL - 5, 1);
      experts.add(List.of(w, w));
    }
    return PackedExperts.pack(
        backend, experts, Collections.nCopies(EXPERTS, Arrays.asList(null, null)));
  }

  private static ExpertGroups groups(int... choices) {
    ExpertGroups groups = new ExpertGroups(EXPERTS, choices.length);
    groups.group(choices, choices.length);
    return groups;
  }

  /** {@code rows} routed rows, all but {@code others} of them to expert 5. */
  private static ExpertGroups skewed(int rows, int others) {
    int[] choices = new int[rows];
    Arrays.setAll(choices, i -> i < others ? i % EXPERTS : 5);
    return groups(choices);
  }

  @ParameterizedTest
  @CsvSource({"1, 0", "4, 4", "7, 7", "64, 64", "64, 3", "1000, 0", "1000, 990", "1000, 500"})
  void tasksCoverEachProductOnceAndAreOfSimilarCost(int rows, int others) {
    try (CpuBackend backend = new CpuBackend()) {
      int panels = 33;
      ExpertGroups groups = skewed(rows, others);
      for (int threads : new int[] {1, 2, 16}) {
        ExpertPlan plan = new ExpertPlan(experts(backend, panels), groups, threads);
        int[][][] done = new int[2][rows][panels];
        long total = 0;
        long most = 0;
        for (ExpertPlan.Task task : plan.tasks()) {
          total += task.cost();
          most = Math.max(most, task.cost());
          for (int place = task.from(); place < task.to(); place++) {
            assertThat(groups.start(task.expert())).isLessThanOrEqualTo(place);
            assertThat(groups.start(task.expert() + 1)).isGreaterThan(place);
            for (int p = task.fromPanel(); p < task.toPanel(); p++) {
              done[task.output()][place][p]++;
            }
          }
        }
        for (int[][] output : done) {
          for (int[] row : output) {
            assertThat(row).containsOnly(1);
          }
        }
        // No thread waits for more than a part of its share, beyond the least task: two panels.
        long least = 2L * (Math.min(rows, MatrixKernels.MAX_ROWS) + 3);
        assertThat(most).isLessThanOrEqualTo(Math.max(least, total / (2L * threads) + least));
      }
    }
  }

  @Test
  void oneThreadTakesAnExpertAtATime() {
    try (CpuBackend backend = new CpuBackend()) {
      ExpertPlan plan = new ExpertPlan(experts(backend, 33), groups(3, 1, 3), 1);
      assertThat(plan.tasks())
          .containsExactly(
              new ExpertPlan.Task(1, 0, 0, 1, 0, 33),
              new ExpertPlan.Task(1, 1, 0, 1, 0, 33),
              new ExpertPlan.Task(3, 0, 1, 3, 0, 33),
              new ExpertPlan.Task(3, 1, 1, 3, 0, 33));
    }
  }

  @Test
  void groupsRowsByExpertInAscendingOrder() {
    ExpertGroups groups = groups(3, 1, 3, 0, 1, 0);
    assertThat(groups.order()).containsExactly(3, 5, 1, 4, 0, 2);
    assertThat(groups.places()).containsExactly(4, 2, 5, 0, 3, 1);
    assertThat(groups.start(0)).isZero();
    assertThat(groups.rows(1)).isEqualTo(2);
    assertThat(groups.rows(2)).isZero();
    assertThat(groups.start(EXPERTS)).isEqualTo(6);
  }
}
