package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.BatchLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

class BatchImageTest {
  private static final int ROWS = 5;

  @Test
  void everyStepIsThereAsAWhole() {
    BatchParts parts = BatchParts.of(StepBucket.of(ROWS, 30));
    SplittableRandom random = new SplittableRandom(1);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment memory = arena.allocate(4L * parts.size(), 16);
      BatchImage image = new BatchImage(parts, memory);
      int[] expected = new int[parts.size()];
      int[] lengths = new int[ROWS];
      for (int step = 0; step < 200; step++) {
        // Mostly sequences that go on, now and then another in the place of one that ended.
        for (int s = 0; s < ROWS; s++) {
          lengths[s] =
              random.nextInt(8) == 0 ? 1 + random.nextInt(30) : Math.min(30, lengths[s] + 1);
        }
        BatchLayout batch = batch(random, step, lengths);
        image.write(batch);
        parts.fill(batch, expected);
        assertThat(memory.toArray(ValueLayout.JAVA_INT)).as("step %d", step).isEqualTo(expected);
      }
    }
  }

  private static BatchLayout batch(SplittableRandom random, int step, int[] lengths) {
    int[][] tables = new int[ROWS][];
    for (int s = 0; s < ROWS; s++) {
      int first = random.nextInt(4) == 0 ? random.nextInt(100) : 7 * s;
      tables[s] = IntStream.range(first, first + lengths[s]).toArray();
    }
    return new BatchLayout(
        random.ints(ROWS, 0, 1000).toArray(),
        IntStream.range(step, step + ROWS).toArray(),
        IntStream.rangeClosed(0, ROWS).toArray(),
        tables,
        IntStream.range(0, ROWS).toArray());
  }
}
