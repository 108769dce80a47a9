package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import org.junit.jupiter.api.Test;

class StepBucketTest {

  @Test
  void holdsEveryStepWithLittlePadding() {
    for (int rows = 1; rows <= StepBucket.MAX_ROWS; rows++) {
      for (int blocks : new int[] {1, 16, 17, 64, 65, 1000}) {
        StepBucket bucket = StepBucket.of(rows, blocks);
        assertThat(bucket.rows()).isBetween(rows, Math.max(rows + 1, rows * 5 / 4));
        assertThat(bucket.tableStride()).isBetween(blocks, Math.max(16, 2 * blocks - 1));
      }
    }
  }

  @Test
  void stepsOfABucketAreTheSame() {
    assertThat(StepBucket.of(33, 40)).isEqualTo(StepBucket.of(40, 64));
    assertThat(StepBucket.of(33, 40)).isNotEqualTo(StepBucket.of(41, 40));
    assertThat(StepBucket.of(33, 64)).isNotEqualTo(StepBucket.of(33, 65));
  }

  /** The others are launched one by one. */
  @Test
  void recordingsHaveRoomForTheTablesOfMostBuckets() {
    assertThat(StepRecorder.holds(StepBucket.of(256, 4096))).isTrue();
    assertThat(StepRecorder.holds(StepBucket.of(128, 8192))).isTrue();
    assertThat(StepRecorder.holds(StepBucket.of(32, 32_768))).isTrue();
    assertThat(StepRecorder.holds(StepBucket.of(256, 4097))).isFalse();
    assertThat(StepRecorder.holds(StepBucket.of(1, 1 << 21))).isFalse();
    assertThat(StepRecorder.holds(StepBucket.of(256, 1 << 26))).isFalse();
  }
}
