package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.Precision;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.DType;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.ModelSpec;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Recorded steps compute what launches of their own compute, bit by bit, whatever the batch. */
class RecordedLoraTest extends OnGpu {
  private static final int CAPACITY = 64;
  private static final int EXPERTS = 8;
  private static final int TOP_K = 2;
  private static final int HIDDEN = 1000;
  private static final int INNER = 600;

  private final TestData data = new TestData(3, Precision.BF16);
  private final Random random = new Random(4);

  private LoraFactors pair(int rank, int in, int out) {
    return new LoraFactors(
        data.weights(DType.BF16, rank, in), data.weights(DType.BF16, out, rank), 0.5f);
  }

  private List<List<LoraFactors>> experts(int rank, int in, int... outs) {
    List<List<LoraFactors>> experts = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      List<LoraFactors> site = new ArrayList<>();
      for (int out : outs) {
        site.add(pair(rank, in, out));
      }
      experts.add(e == 2 ? null : site);
    }
    return experts;
  }

  private static BatchLayout decode(int rows) {
    int[] numbers = IntStream.range(0, rows).toArray();
    int[][] tables = new int[rows][];
    Arrays.setAll(tables, i -> new int[] {i});
    return new BatchLayout(
        numbers, new int[rows], IntStream.rangeClosed(0, rows).toArray(), tables, numbers);
  }

  /** Some rows of each adapter, in random order; some have none. */
  private RowGroups groups(int rows, int adapters) {
    List<List<Integer>> members = new ArrayList<>();
    IntStream.range(0, adapters).forEach(g -> members.add(new ArrayList<>()));
    for (int r = 0; r < rows; r++) {
      int g = random.nextInt(adapters + 1);
      if (g < adapters) {
        members.get(random.nextBoolean() ? 0 : g).add(r);
      }
    }
    int[] starts = new int[adapters + 1];
    for (int g = 0; g < adapters; g++) {
      starts[g + 1] = starts[g] + members.get(g).size();
    }
    return new RowGroups(
        members.stream().flatMap(List::stream).mapToInt(Integer::intValue).toArray(), starts);
  }

  @Test
  void recordedStepsEqualDirectLaunches() {
    int adapters = 9;
    List<LoraWeights> dense = new ArrayList<>();
    List<ExpertLoraWeights> up = new ArrayList<>();
    List<ExpertLoraWeights> down = new ArrayList<>();
    for (int g = 0; g < adapters; g++) {
      int rank = new int[] {8, 16, 64, 33}[g % 4];
      dense.add(
          g == 4
              ? null
              : backend.loraWeights(
                  Arrays.asList(pair(rank, HIDDEN, INNER), null, pair(16, HIDDEN, 40))));
      up.add(g == 5 ? null : backend.expertLoraWeights(experts(rank, HIDDEN, INNER, INNER)));
      down.add(backend.expertLoraWeights(experts(rank, INNER, HIDDEN)));
    }
    Tensor x = upload(data.matrix(CAPACITY, HIDDEN, 1));
    Tensor mid = upload(data.matrix(CAPACITY * TOP_K, INNER, 1));
    Tensor[] outs = {
      backend.tensor(CAPACITY, INNER),
      backend.tensor(CAPACITY * TOP_K, INNER),
      backend.tensor(CAPACITY * TOP_K, INNER),
      backend.tensor(CAPACITY, HIDDEN),
      backend.tensor(CAPACITY, 40),
      backend.tensor(CAPACITY * TOP_K, HIDDEN)
    };
    Routing routing = backend.routing(CAPACITY, TOP_K, EXPERTS);
    Tensor logits = backend.wideTensor(CAPACITY, EXPERTS);
    ModelSpec.Moe moe = new ModelSpec.Moe(EXPERTS, TOP_K, true, true, false, false);
    int[] all = IntStream.range(0, CAPACITY).toArray();
    for (int step = 0; step < 60; step++) {
      int rows = new int[] {1, 5, 33, 64}[step % 4];
      int present = new int[] {1, 3, 9}[step % 3];
      RowGroups groups = groups(rows, present);
      ops.embed(backend.embedding(TestData.f32(data.matrix(CAPACITY, EXPERTS, 1))), all, logits);
      ops.route(logits, moe, routing);
      Routing some = routing.first(rows);
      Runnable operators =
          () -> {
            ops.loraAdd(
                groups,
                dense.subList(0, present),
                x.first(rows),
                outs[0].first(rows),
                null,
                outs[4].first(rows));
            ops.expertLoraAdd(
                groups,
                up.subList(0, present),
                some,
                x.first(rows),
                outs[1].first(rows * TOP_K),
                outs[2].first(rows * TOP_K));
            ops.expertLoraCombine(
                groups,
                down.subList(0, present),
                some,
                mid.first(rows * TOP_K),
                outs[3].first(rows));
            ops.expertLoraTerms(
                groups,
                down.subList(0, present),
                some,
                mid.first(rows * TOP_K),
                outs[5].first(rows * TOP_K));
          };
      List<float[][]> direct = results(outs, operators);
      List<float[][]> recorded = results(outs, () -> ops.step(decode(rows), true, operators));
      for (int t = 0; t < outs.length; t++) {
        assertThat(recorded.get(t)).as("step %d, output %d", step, t).isDeepEqualTo(direct.get(t));
      }
    }
    ops.synchronize();
  }

  private List<float[][]> results(Tensor[] outs, Runnable operators) {
    for (Tensor out : outs) {
      ops.zero(out);
    }
    operators.run();
    return Arrays.stream(outs).map(this::download).toList();
  }
}
