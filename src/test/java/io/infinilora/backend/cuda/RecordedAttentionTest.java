package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.offset;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.AttentionPreparation;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.backend.Precision;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.RopeSpec;
import java.util.Arrays;
import java.util.stream.IntStream;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/**
 * Attention of recorded, padded steps, whose rows several blocks share, is close to launches of its
 * own; in bits it may differ, since a bucket cuts keys in another way than a batch.
 */
class RecordedAttentionTest extends OnGpu {
  private static final int HEADS = 8;
  private static final int KV_HEADS = 2;
  private static final int BLOCK = 16;

  /** Blocks of a sequence. */
  private static final int TABLE = 60;

  private static final int STEPS = 24;
  private static final int CAPACITY = 12;

  private final TestData data = new TestData(11, Precision.BF16);

  /** Positions that a sequence has before the first step: all but those of the steps, one, some. */
  private static int length(int sequence) {
    int most = TABLE * BLOCK - STEPS;
    return sequence == 0 ? most : sequence == 1 ? 1 : 1 + sequence * 397 % most;
  }

  private static int[] table(int sequence) {
    return IntStream.range(0, TABLE).map(i -> (CAPACITY - sequence) * TABLE - 1 - i).toArray();
  }

  /** What is cached before the first step. */
  private void fill(KvCache cache, RopeTable rope, double[][] keys, double[][] values) {
    for (int s = 0; s < CAPACITY; s++) {
      int rows = length(s);
      int[] positions = IntStream.range(0, rows).toArray();
      BatchLayout batch =
          new BatchLayout(
              new int[rows], positions, new int[] {0, rows}, new int[][] {table(s)}, new int[0]);
      Tensor q = backend.tensor(rows, keys[0].length);
      Tensor k = backend.tensor(rows, keys[0].length);
      Tensor v = backend.tensor(rows, keys[0].length);
      write(Arrays.copyOf(keys, rows), k);
      write(Arrays.copyOf(values, rows), v);
      ops.ropeAndStore(batch, rope, q, k, v, cache, 1);
    }
  }

  private static BatchLayout decode(int rows, int step) {
    int[] numbers = IntStream.range(0, rows).toArray();
    int[][] tables = new int[rows][];
    Arrays.setAll(tables, RecordedAttentionTest::table);
    return new BatchLayout(
        numbers,
        Arrays.stream(numbers).map(s -> length(s) + step).toArray(),
        IntStream.rangeClosed(0, rows).toArray(),
        tables,
        numbers);
  }

  @ParameterizedTest
  @CsvSource({"64, 9, 0", "128, 9, 0", "128, 11, 300", "128, 1, 0", "256, 3, 0", "72, 9, 0"})
  void recordedStepsAreLikeDirectLaunches(int headDim, int rows, int window) {
    KvLayout layout = new KvLayout(2, CAPACITY * TABLE, BLOCK, KV_HEADS, headDim);
    RopeTable rope = backend.ropeTable(RopeSpec.plain(10000), headDim);
    AttentionParams params = new AttentionParams(HEADS, KV_HEADS, headDim, 0.1f, window, null);
    KvCache directly = backend.kvCache(layout);
    KvCache recorded = backend.kvCache(layout);
    double[][] keys = data.matrix(TABLE * BLOCK, KV_HEADS * headDim, 1);
    double[][] values = data.matrix(TABLE * BLOCK, KV_HEADS * headDim, 1);
    fill(directly, rope, keys, values);
    fill(recorded, rope, keys, values);
    Tensor q = backend.tensor(CAPACITY, HEADS * headDim);
    Tensor k = backend.tensor(CAPACITY, KV_HEADS * headDim);
    Tensor v = backend.tensor(CAPACITY, KV_HEADS * headDim);
    Tensor attended = backend.tensor(CAPACITY, HEADS * headDim);
    for (int step = 0; step < STEPS; step++) {
      double[][] newQ = data.matrix(CAPACITY, HEADS * headDim, 1);
      double[][] newK = data.matrix(CAPACITY, KV_HEADS * headDim, 1);
      // Large, so that a value that is missing, or is another step's, is seen.
      double[][] newV = data.matrix(CAPACITY, KV_HEADS * headDim, 8);
      float[][][] results = new float[2][][];
      for (int run = 0; run < 2; run++) {
        KvCache cache = run == 0 ? directly : recorded;
        write(newQ, q);
        write(newK, k);
        write(newV, v);
        ops.zero(attended);
        BatchLayout batch = decode(rows, step);
        Runnable operators =
            () ->
                ops.attend(
                    batch,
                    AttentionPreparation.of(rope),
                    q.first(rows),
                    k.first(rows),
                    v.first(rows),
                    cache,
                    1,
                    params,
                    attended.first(rows));
        if (run == 0) {
          operators.run();
        } else {
          ops.step(batch, true, operators);
        }
        results[run] = download(attended);
      }
      for (int r = 0; r < rows; r++) {
        for (int c = 0; c < results[0][r].length; c++) {
          float expected = results[0][r][c];
          assertThat(results[1][r][c])
              .as("step %d, row %d, column %d", step, r, c)
              .isCloseTo(expected, offset(0.1f + Math.abs(expected) / 64));
        }
      }
      for (int r = rows; r < CAPACITY; r++) {
        assertThat(results[1][r])
            .as("step %d, padding", step)
            .isEqualTo(new float[HEADS * headDim]);
      }
    }
  }
}
