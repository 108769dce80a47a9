package io.infinilora.bench;

import io.infinilora.backend.Backend;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import io.infinilora.core.DType;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.WeightMatrix;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;

/**
 * Routed layers of a mid-size mixture: hidden 1024, 32 experts of 512, 4 of them per row, chosen
 * evenly. Rows of different runs go to different experts, so that all layers together do not stay
 * in the cache.
 */
final class ExpertCases {
  private static final int HIDDEN = 1024;
  private static final int INTER = 512;
  private static final int EXPERTS = 32;
  private static final int TOP_K = 4;
  private static final int LAYERS = 4;
  private static final int RANK = 16;
  private static final int ROUTINGS = 16;

  private static final ModelSpec.Moe MOE =
      new ModelSpec.Moe(EXPERTS, TOP_K, true, true, false, false);

  /** Routings with the number of experts that each touches. */
  private record Routed(Tensor logits, Routing routing, int[][] choices) {}

  private final KernelBench bench;
  private final Backend backend;
  private final OpStream ops;
  private final Random random = new Random(2);
  private int run;

  ExpertCases(KernelBench bench) {
    this.bench = bench;
    this.backend = bench.backend();
    this.ops = bench.ops();
  }

  /** Times the experts' projections. */
  void projections(DType dtype, int... rowCounts) {
    List<ExpertProjection> in = new ArrayList<>();
    List<ExpertProjection> out = new ArrayList<>();
    for (int l = 0; l < LAYERS; l++) {
      in.add(experts(dtype, HIDDEN, INTER, INTER));
      out.add(experts(dtype, INTER, HIDDEN));
    }
    double expertBytes = (double) (in.getFirst().bytes() + out.getFirst().bytes()) / EXPERTS;
    for (int rows : rowCounts) {
      List<Routed> routed = routings(rows);
      Tensor x = bench.filled(rows, HIDDEN);
      Tensor gate = backend.tensor(rows * TOP_K, INTER);
      Tensor up = backend.tensor(rows * TOP_K, INTER);
      Tensor y = backend.tensor(rows, HIDDEN);
      double time =
          bench.median(
              () -> {
                for (int l = 0; l < LAYERS; l++) {
                  Routing routing = routed.get(run++ % ROUTINGS).routing();
                  ops.expertProject(in.get(l), routing, x, gate, up);
                  ops.expertCombine(out.get(l), routing, gate, y);
                }
              });
      double touched = routed.stream().mapToInt(r -> touched(r, 0, rows)).average().orElse(0);
      bench.report(
          "experts of %d layers, %s, %d rows".formatted(LAYERS, dtype, rows),
          time,
          LAYERS * touched * expertBytes,
          2.0 * LAYERS * rows * TOP_K * 3 * HIDDEN * INTER);
    }
  }

  /** Times the experts' low-rank products. */
  void lora(int groups, int rowsPerGroup, DType dtype) {
    int rows = groups * rowsPerGroup;
    List<List<ExpertLoraWeights>> in = new ArrayList<>();
    List<List<ExpertLoraWeights>> out = new ArrayList<>();
    for (int l = 0; l < LAYERS; l++) {
      in.add(new ArrayList<>());
      out.add(new ArrayList<>());
      for (int g = 0; g < groups; g++) {
        in.get(l).add(adapter(dtype, HIDDEN, INTER, INTER));
        out.get(l).add(adapter(dtype, INTER, HIDDEN));
      }
    }
    ExpertLoraWeights first = in.getFirst().getFirst();
    double expertBytes = (double) (first.bytes() + out.getFirst().getFirst().bytes()) / EXPERTS;
    int[] order = new int[rows];
    Arrays.setAll(order, i -> i);
    int[] starts = new int[groups + 1];
    Arrays.setAll(starts, g -> g * rowsPerGroup);
    RowGroups mix = new RowGroups(order, starts);
    List<Routed> routed = routings(rows);
    Tensor x = bench.filled(rows, HIDDEN);
    Tensor gate = backend.tensor(rows * TOP_K, INTER);
    Tensor up = backend.tensor(rows * TOP_K, INTER);
    Tensor mid = bench.filled(rows * TOP_K, INTER);
    Tensor y = backend.tensor(rows, HIDDEN);
    double time =
        bench.median(
            () -> {
              for (int l = 0; l < LAYERS; l++) {
                Routing routing = routed.get(run++ % ROUTINGS).routing();
                ops.expertLoraAdd(mix, in.get(l), routing, x, gate, up);
                ops.expertLoraCombine(mix, out.get(l), routing, mid, y);
              }
            });
    double touched = 0;
    for (Routed r : routed) {
      for (int g = 0; g < groups; g++) {
        touched += (double) touched(r, starts[g], starts[g + 1]) / ROUTINGS;
      }
    }
    bench.report(
        "expert LoRA of %d layers, rank %d, %s, %d adapters of %d rows"
            .formatted(LAYERS, RANK, dtype, groups, rowsPerGroup),
        time,
        LAYERS * touched * expertBytes,
        2.0 * LAYERS * rows * TOP_K * 3 * RANK * (HIDDEN + INTER));
    in.forEach(site -> site.forEach(backend::free));
    out.forEach(site -> site.forEach(backend::free));
  }

  /** Times the choice of experts. */
  void routing(int rows) {
    Routed r = routings(rows).getFirst();
    double time = bench.median(() -> ops.route(r.logits(), MOE, r.routing()));
    bench.report("choice of experts, " + rows + " rows", time, 0, 0);
  }

  private static int touched(Routed routed, int fromRow, int toRow) {
    return (int)
        Arrays.stream(routed.choices(), fromRow, toRow)
            .flatMapToInt(Arrays::stream)
            .distinct()
            .count();
  }

  private List<Routed> routings(int rows) {
    List<Routed> routings = new ArrayList<>();
    for (int i = 0; i < ROUTINGS; i++) {
      float[][] logits = new float[rows][EXPERTS];
      int[][] choices = new int[rows][TOP_K];
      List<Integer> experts = new ArrayList<>();
      for (int e = 0; e < EXPERTS; e++) {
        experts.add(e);
      }
      for (int r = 0; r < rows; r++) {
        Collections.shuffle(experts, random);
        for (int j = 0; j < TOP_K; j++) {
          choices[r][j] = experts.get(j);
          logits[r][choices[r][j]] = TOP_K - j;
        }
      }
      Tensor t = bench.tensor(logits);
      Routing routing = backend.routing(rows, TOP_K, EXPERTS);
      ops.route(t, MOE, routing);
      routings.add(new Routed(t, routing, choices));
    }
    return routings;
  }

  private ExpertProjection experts(DType dtype, int in, int... outs) {
    List<List<WeightMatrix>> experts = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      List<WeightMatrix> matrices = new ArrayList<>();
      for (int out : outs) {
        matrices.add(WeightMatrix.of(bench.random(dtype, out, in)));
      }
      experts.add(matrices);
    }
    return backend.expertProjection(
        experts, Collections.nCopies(EXPERTS, Collections.nCopies(outs.length, null)));
  }

  private ExpertLoraWeights adapter(DType dtype, int in, int... outs) {
    List<List<LoraFactors>> experts = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      List<LoraFactors> pairs = new ArrayList<>();
      for (int out : outs) {
        pairs.add(
            new LoraFactors(
                WeightMatrix.of(bench.random(dtype, RANK, in)),
                WeightMatrix.of(bench.random(dtype, out, RANK)),
                1));
      }
      experts.add(pairs);
    }
    return backend.expertLoraWeights(experts);
  }
}
