package io.infinilora.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.reference.ReferenceExperts;
import io.infinilora.backend.reference.ReferenceExperts.Routed;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.Activation;
import io.infinilora.core.DType;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Routing, and the layers of routed experts. */
public abstract class ExpertContract extends SamplingContract {
  protected static final int EXPERTS = 6;

  /** Where the router sends rows. */
  protected enum Load {
    /** Anywhere. */
    SPREAD,
    /** All to expert 4 first, the rest anywhere. */
    ONE,
    /** Never to experts 0 and 3. */
    SOME;

    private void apply(double[] logits) {
      switch (this) {
        case SPREAD -> {}
        case ONE -> logits[4] += 50;
        case SOME -> {
          logits[0] -= 50;
          logits[3] -= 50;
        }
      }
    }
  }

  protected static ModelSpec.Moe moe(int topK, boolean softmaxFirst, boolean normalise) {
    return new ModelSpec.Moe(EXPERTS, topK, softmaxFirst, normalise, false, false);
  }

  protected double[][] logits(int rows, Load load) {
    double[][] logits = data.matrix(rows, EXPERTS, 1);
    for (double[] row : logits) {
      load.apply(row);
      for (int e = 0; e < EXPERTS; e++) {
        row[e] = (float) row[e];
      }
    }
    return logits;
  }

  /** The device's routing by these logits. */
  protected Routing route(double[][] logits, ModelSpec.Moe moe) {
    Routing routing = backend.routing(logits.length, moe.topK(), EXPERTS);
    ops.route(uploadWide(logits), moe, routing);
    return routing;
  }

  /** Experts of random weights, alike in shape. */
  private List<List<WeightMatrix>> experts(DType dtype, int in, int... outs) {
    List<List<WeightMatrix>> experts = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      List<WeightMatrix> matrices = new ArrayList<>();
      for (int out : outs) {
        matrices.add(data.weights(dtype, out, in));
      }
      experts.add(matrices);
    }
    return experts;
  }

  private static List<List<Vec>> noBiases(int outputs) {
    return noBiases(EXPERTS, outputs);
  }

  private static List<List<Vec>> noBiases(int experts, int outputs) {
    return Collections.nCopies(experts, Collections.nCopies(outputs, null));
  }

  private double[][][] decode(List<List<WeightMatrix>> experts, int output) {
    double[][][] decoded = new double[EXPERTS][][];
    Arrays.setAll(decoded, e -> decode(experts.get(e).get(output)));
    return decoded;
  }

  private static double most(double[][][] weights) {
    return Arrays.stream(weights)
        .flatMap(Arrays::stream)
        .flatMapToDouble(Arrays::stream)
        .map(Math::abs)
        .max()
        .orElse(0);
  }

  /** Expert e's matrix is the column of these. */
  private ExpertProjection columns(double[][]... perExpert) {
    List<List<WeightMatrix>> experts = new ArrayList<>();
    for (double[][] column : perExpert) {
      experts.add(List.of(WeightMatrix.of(TestData.f32(column))));
    }
    return backend.expertProjection(experts, noBiases(experts.size(), 1));
  }

  /** What a routing holds, seen through its use: experts that give their number, or one-hot. */
  protected void holds(Routing routing, Routed expected) {
    int rows = expected.choices().length;
    int topK = routing.topK();
    int experts = routing.experts();
    double[][][] numbers = new double[experts][][];
    double[][][] hot = new double[experts][experts][1];
    for (int e = 0; e < experts; e++) {
      numbers[e] = new double[][] {{e}};
      hot[e][e][0] = 1;
    }
    double[][] ones = new double[rows * topK][1];
    for (double[] one : ones) {
      one[0] = 1;
    }
    Tensor x = upload(ones);
    Tensor chosen = backend.tensor(rows * topK, 1);
    ops.expertProject(columns(numbers), routing, x.first(rows), chosen);
    Tensor weights = backend.tensor(rows, experts);
    ops.expertCombine(columns(hot), routing, x, weights);
    float[][] choice = download(chosen);
    float[][] weight = download(weights);
    for (int r = 0; r < rows; r++) {
      double[] expectedWeights = new double[experts];
      for (int j = 0; j < topK; j++) {
        int e = expected.choices()[r][j];
        assertThat(choice[r * topK + j][0]).as("row %d choice %d", r, j).isEqualTo(e);
        expectedWeights[e] = expected.weights()[r][j];
      }
      close(new float[][] {weight[r]}, new double[][] {expectedWeights}, 1, 0.1);
    }
  }

  @ParameterizedTest
  @CsvSource({
    "1, true, true",
    "1, true, false",
    "1, false, false",
    "3, true, true",
    "3, true, false",
    "3, false, false",
    "6, true, true",
    "6, true, false",
    "6, false, false"
  })
  void choosesExperts(int topK, boolean softmaxFirst, boolean normalise) {
    double[][] logits = data.matrix(70, EXPERTS, 2);
    logits[1] = new double[] {1, 3, 2, 3, 3, 2};
    logits[2] = new double[EXPERTS];
    logits[3] = new double[] {-90, -80, -70, -60, -50, -95};
    logits[4] = new double[] {90, 80, 70, 60, 50, 95};
    logits[5] = new double[] {0.0, -0.0, -0.0, 0.0, -1, 0.0};
    ModelSpec.Moe moe = moe(topK, softmaxFirst, normalise);
    holds(route(logits, moe), ReferenceExperts.route(logits, moe));
  }

  @ParameterizedTest
  @CsvSource({
    "1, 128, 2048, 8, false",
    "7, 32, 2880, 4, true",
    "8, 20, 72, 3, true",
    "16, 128, 512, 8, false",
    "17, 33, 264, 2, true",
    "40, 16, 4096, 12, false",
    "64, 128, 2048, 8, true",
    "64, 8, 3208, 2, false",
    "65, 6, 64, 2, true"
  })
  void choosesExpertsOfRows(int rows, int experts, int in, int topK, boolean biased) {
    // Sums of small whole numbers are exact in any order.
    double[][] x = new double[rows][in];
    double[][] w = new double[experts][in];
    double[] bias = new double[experts];
    Random random = new Random(rows);
    for (double[] row : x) {
      Arrays.setAll(row, i -> random.nextInt(-4, 5));
    }
    for (double[] row : w) {
      Arrays.setAll(row, i -> random.nextInt(-4, 5) / 64.0);
    }
    for (int e = 0; e < experts && biased; e++) {
      bias[e] = random.nextInt(-64, 65) / 64.0;
    }
    double[][] logits = new double[rows][experts];
    for (int r = 0; r < rows; r++) {
      for (int e = 0; e < experts; e++) {
        logits[r][e] = bias[e];
        for (int i = 0; i < in; i++) {
          logits[r][e] += x[r][i] * w[e][i];
        }
      }
    }
    Projection router =
        backend.projection(
            List.of(WeightMatrix.of(TestData.f32(w))),
            Collections.singletonList(biased ? vec(bias) : null));
    ModelSpec.Moe moe = new ModelSpec.Moe(experts, topK, true, true, false, false);
    Routing routing = backend.routing(rows, topK, experts);
    ops.route(new Router(router, moe), upload(x), backend.wideTensor(rows, experts), routing);
    holds(routing, ReferenceExperts.route(logits, moe));
  }

  /** A tensor as the residual stream may be. */
  private Tensor residual(double[][] values, boolean wide) {
    return wide ? uploadWide(values) : upload(values);
  }

  private int[] packed(Routing routing) {
    int[] rows = IntStream.range(0, routing.rows()).toArray();
    int values = rows.length * routing.topK() * 2;
    MemorySegment packed = Arena.ofAuto().allocate(4L * values, 4);
    ops.packRouting(routing, rows, packed);
    return packed.toArray(ValueLayout.JAVA_INT);
  }

  @ParameterizedTest
  @CsvSource({
    "1, 128, 2048, 8, true, RMS",
    "2, 128, 2048, 8, true, RMS",
    "3, 32, 2880, 4, true, RMS",
    "4, 33, 2877, 3, false, RMS",
    "5, 8, 4096, 2, true, RMS",
    "1, 16, 4091, 16, true, RMS",
    "8, 60, 576, 4, false, RMS",
    "9, 128, 1024, 8, true, RMS",
    "17, 6, 20, 6, true, RMS",
    "32, 128, 2048, 8, true, RMS",
    "33, 100, 264, 7, true, RMS",
    "64, 32, 2880, 8, true, RMS",
    "65, 8, 72, 2, true, RMS",
    "1, 20, 4104, 3, true, RMS",
    "2, 140, 512, 8, true, RMS",
    "3, 16, 768, 4, true, LAYER"
  })
  void addsNormalisesAndRoutesAsOneAfterTheOther(
      int rows, int experts, int in, int topK, boolean wide, ModelSpec.Norm norm) {
    double[][] x = data.matrix(rows, in, 1);
    double[][] y = data.matrix(rows, in, 3);
    NormParams params = new NormParams(norm, vec(data.matrix(1, in, 1)[0]), 1e-5f);
    Projection router =
        backend.projection(
            List.of(data.weights(DType.BF16, experts, in)),
            Collections.singletonList(rows % 2 == 0 ? null : vec(data.matrix(1, experts, 1)[0])));
    Tensor added = upload(x);
    Tensor logits = backend.wideTensor(rows, experts);
    for (int mode = 0; mode < 3; mode++) {
      ModelSpec.Moe moe = new ModelSpec.Moe(experts, topK, mode < 2, mode < 1, false, false);
      Tensor expectedSum = residual(y, wide);
      Tensor expectedNorm = backend.tensor(rows, in);
      Routing expected = backend.routing(rows, topK, experts);
      ops.addNorm(added, expectedSum, params, expectedNorm);
      ops.route(new Router(router, moe), expectedNorm, logits, expected);

      Tensor sum = residual(y, wide);
      Tensor normed = backend.tensor(rows, in);
      Routing routing = backend.routing(rows, topK, experts);
      ops.addNormRoute(added, sum, params, normed, new Router(router, moe), logits, routing);
      assertThat(download(sum)).as("sum").isDeepEqualTo(download(expectedSum));
      alike(download(normed), download(expectedNorm), "norm");
      assertThat(packed(routing)).as("routing, mode %d", mode).isEqualTo(packed(expected));
    }
  }

  @ParameterizedTest
  @CsvSource({
    "1, 8, 2048, true, RMS",
    "1, 4, 2880, true, RMS",
    "2, 2, 4096, false, RMS",
    "3, 16, 4091, true, RMS",
    "5, 1, 576, true, RMS",
    "7, 3, 20, false, RMS",
    "8, 9, 264, true, RMS",
    "31, 8, 2877, true, RMS",
    "32, 4, 1024, true, RMS",
    "33, 4, 1024, true, RMS",
    "64, 2, 520, true, RMS",
    "200, 3, 72, true, RMS",
    "2, 3, 4104, true, RMS",
    "2, 3, 512, true, LAYER"
  })
  void combinesAddsAndNormalisesAsOneAfterTheOther(
      int rows, int topK, int out, boolean wide, ModelSpec.Norm norm) {
    int experts = 16;
    int in = 40;
    List<List<WeightMatrix>> matrices = new ArrayList<>();
    List<List<Vec>> biases = new ArrayList<>();
    for (int e = 0; e < experts; e++) {
      matrices.add(List.of(data.weights(DType.BF16, out, in)));
      biases.add(List.of(vec(data.matrix(1, out, 1)[0])));
    }
    ExpertProjection down = backend.expertProjection(matrices, biases);
    Routing routing = backend.routing(rows, topK, experts);
    ModelSpec.Moe moe = new ModelSpec.Moe(experts, topK, true, false, false, false);
    ops.route(uploadWide(data.matrix(rows, experts, 1)), moe, routing);
    double[][] y = data.matrix(rows, out, 3);
    double[][] gates = data.matrix(rows * topK, in, 1);
    Tensor up = upload(data.matrix(rows * topK, in, 1));
    Activation activation = rows % 2 == 0 ? Activation.SWIGLU_CLAMPED : Activation.SWIGLU;
    Tensor x = upload(gates);
    ops.gatedActivation(activation, x, up, x);
    NormParams params = new NormParams(norm, vec(data.matrix(1, out, 1)[0]), 1e-5f);
    Tensor room = backend.tensor(rows, out);
    Tensor expectedSum = residual(y, wide);
    Tensor expectedNorm = backend.tensor(rows, out);
    ops.expertCombine(down, routing, x, room);
    ops.addNorm(room, expectedSum, params, expectedNorm);

    Tensor sum = residual(y, wide);
    Tensor normed = backend.tensor(rows, out);
    ops.expertCombineAddNorm(
        activation, upload(gates), up, down, routing, room, sum, params, normed);
    alike(download(sum), download(expectedSum), "sum");
    alike(download(normed), download(expectedNorm), "norm");
  }

  @Test
  void gathersRoutings() {
    double[][] logits = logits(9, Load.SPREAD);
    ModelSpec.Moe moe = moe(3, true, true);
    Routing from = route(logits, moe);
    int[] rows = {7, 0, 8, 7};
    Routing room = backend.routing(6, 3, EXPERTS);
    ops.gatherRouting(from, rows, room.first(4));
    double[][] picked = new double[4][];
    Arrays.setAll(picked, i -> logits[rows[i]]);
    holds(room.first(4), ReferenceExperts.route(picked, moe));
    ops.gatherRouting(from, new int[] {1}, room.first(1));
    holds(room.first(1), ReferenceExperts.route(new double[][] {logits[1]}, moe));
  }

  @Test
  void viewsOfARoutingShareItsRows() {
    double[][] logits = logits(5, Load.SPREAD);
    ModelSpec.Moe moe = moe(2, false, false);
    Routing room = backend.routing(8, 2, EXPERTS);
    ops.route(uploadWide(logits), moe, room.first(5));
    assertThat(room.first(5).rows()).isEqualTo(5);
    assertThat(room.topK()).isEqualTo(2);
    assertThat(room.experts()).isEqualTo(EXPERTS);
    double[][] some = Arrays.copyOf(logits, 3);
    holds(room.first(3), ReferenceExperts.route(some, moe));
    holds(room.first(5), ReferenceExperts.route(logits, moe));
    assertThatThrownBy(() -> room.first(9)).isInstanceOf(IndexOutOfBoundsException.class);
  }

  @ParameterizedTest
  @MethodSource("weightTypes")
  void projectsEveryTypeThroughExperts(DType dtype) {
    int block = dtype.blockElements();
    checkProjection(dtype, block == 1 ? 48 : Math.max(block, 96), 3, Load.SPREAD, 40, true);
    checkProjection(dtype, block == 1 ? 24 : block, 2, Load.SOME, 7, false);
  }

  @ParameterizedTest
  @CsvSource({
    "1, ONE, 1",
    "1, ONE, 300",
    "3, ONE, 90",
    "6, SPREAD, 11",
    "4, SOME, 64",
    "5, SPREAD, 430",
    "3, SPREAD, 1"
  })
  void projectsAnyLoad(int topK, Load load, int rows) {
    checkProjection(DType.F32, 48, topK, load, rows, false);
    checkProjection(DType.MXFP4, 96, topK, load, rows, true);
  }

  private void checkProjection(DType dtype, int in, int topK, Load load, int rows, boolean biased) {
    int[] outs = {36, 40, 133};
    List<List<WeightMatrix>> experts = experts(dtype, in, outs);
    List<List<Vec>> biases = new ArrayList<>();
    double[][] bias = data.matrix(EXPERTS, outs[1], 1);
    for (int e = 0; e < EXPERTS; e++) {
      biases.add(Arrays.asList(null, biased ? vec(bias[e]) : null, null));
    }
    ExpertProjection p = backend.expertProjection(experts, biases);
    assertThat(p.experts()).isEqualTo(EXPERTS);
    assertThat(p.outputs()).isEqualTo(3);
    assertThat(p.in()).isEqualTo(in);
    assertThat(p.out(2)).isEqualTo(133);

    double[][] logits = logits(rows, load);
    ModelSpec.Moe moe = moe(topK, true, true);
    double[][] x = data.matrix(rows, in, 1);
    Tensor[] ys = new Tensor[outs.length];
    Arrays.setAll(ys, t -> backend.tensor(rows * topK, outs[t]));
    ops.expertProject(p, route(logits, moe), upload(x), ys);
    Routed routed = ReferenceExperts.route(logits, moe);
    for (int t = 0; t < outs.length; t++) {
      double[][][] w = decode(experts, t);
      double[][] expected = ReferenceExperts.project(routed, x, w, t == 1 && biased ? bias : null);
      close(download(ys[t]), expected, in, most(w));
    }
  }

  @ParameterizedTest
  @ValueSource(ints = {5, 300})
  void projectsToFloat32(int rows) {
    List<List<WeightMatrix>> experts = experts(DType.F32, 72, 133);
    double[][] logits = logits(rows, Load.SPREAD);
    ModelSpec.Moe moe = moe(3, true, true);
    double[][] x = data.matrix(rows, 72, 1);
    Tensor y = backend.wideTensor(rows * 3, 133);
    ops.expertProject(
        backend.expertProjection(experts, noBiases(1)), route(logits, moe), upload(x), y);
    double[][][] w = decode(experts, 0);
    Routed routed = ReferenceExperts.route(logits, moe);
    close(download(y), ReferenceExperts.project(routed, x, w, null), 72, most(w));
  }

  @ParameterizedTest
  @MethodSource("weightTypes")
  void combinesEveryType(DType dtype) {
    int block = dtype.blockElements();
    checkCombination(dtype, block == 1 ? 36 : Math.max(block, 96), 3, Load.SPREAD, 40, true);
    checkCombination(dtype, block == 1 ? 40 : block, 2, Load.SOME, 7, false);
  }

  @ParameterizedTest
  @CsvSource({
    "1, ONE, 1",
    "1, ONE, 300",
    "3, ONE, 90",
    "6, SPREAD, 11",
    "4, SOME, 64",
    "5, SPREAD, 430",
    "3, SPREAD, 1"
  })
  void combinesAnyLoad(int topK, Load load, int rows) {
    checkCombination(DType.F32, 36, topK, load, rows, false);
    checkCombination(DType.FP4, 96, topK, load, rows, true);
  }

  private void checkCombination(
      DType dtype, int in, int topK, Load load, int rows, boolean biased) {
    int out = 48;
    List<List<WeightMatrix>> experts = experts(dtype, in, out);
    double[][] bias = data.matrix(EXPERTS, out, 1);
    List<List<Vec>> biases = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      biases.add(Collections.singletonList(biased ? vec(bias[e]) : null));
    }
    double[][] logits = logits(rows, load);
    ModelSpec.Moe moe = moe(topK, true, false);
    double[][] x = data.matrix(rows * topK, in, 1);
    Tensor y = upload(data.matrix(rows, out, 1));
    ops.expertCombine(backend.expertProjection(experts, biases), route(logits, moe), upload(x), y);
    double[][][] w = decode(experts, 0);
    Routed routed = ReferenceExperts.route(logits, moe);
    close(download(y), ReferenceExperts.combine(routed, x, w, biased ? bias : null), in, most(w));
  }

  @ParameterizedTest
  @CsvSource({
    "SWIGLU, 1, 3, SPREAD, 36, false, true",
    "SWIGLU, 1, 6, SPREAD, 768, true, true",
    "SWIGLU_CLAMPED, 1, 4, ONE, 1056, true, false",
    "SWIGLU_CLAMPED, 2, 1, SPREAD, 5, false, true",
    "SWIGLU, 3, 4, SOME, 776, false, false",
    "SWIGLU_CLAMPED, 8, 2, ONE, 2888, true, true",
    "SWIGLU, 8, 6, SPREAD, 4136, false, true",
    "SWIGLU, 9, 3, ONE, 264, true, true",
    "SWIGLU_CLAMPED, 65, 2, SPREAD, 40, false, true"
  })
  void combinesGatedRows(
      Activation activation,
      int rows,
      int topK,
      Load load,
      int in,
      boolean biased,
      boolean siblings) {
    int out = 45;
    double[][] bias = data.matrix(EXPERTS, out, 1);
    List<List<Vec>> biases = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      biases.add(Collections.singletonList(biased ? vec(bias[e]) : null));
    }
    ExpertProjection down = backend.expertProjection(experts(DType.BF16, in, out), biases);
    Routing routing = route(logits(rows, load), moe(topK, true, true));
    double[][] gates = data.matrix(rows * topK, in, 4);
    double[][] ups = data.matrix(rows * topK, in, 4);
    gates[0][0] = 200;
    gates[0][1] = -200;
    gates[0][2] = 0;
    ups[0][3] = 50;
    List<float[][]> results = new ArrayList<>();
    for (boolean together : new boolean[] {false, true}) {
      List<Tensor> room =
          siblings
              ? backend.tensors(rows * topK, in, in)
              : List.of(backend.tensor(rows * topK, in), backend.tensor(rows * topK, in));
      Tensor gate = room.get(0);
      Tensor up = room.get(1);
      write(gate, gates);
      write(up, ups);
      Tensor y = upload(data.matrix(rows, out, 1));
      if (together) {
        ops.expertCombine(activation, down, routing, gate, up, y);
      } else {
        ops.gatedActivation(activation, gate, up, gate);
        ops.expertCombine(down, routing, gate, y);
      }
      results.add(download(y));
    }
    assertThat(results.get(1)).isDeepEqualTo(results.get(0));
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void expertsMayBeStridedViews(DType dtype) {
    // Interleaved gate and up, as one parameter has them; down transposed.
    int hidden = 48;
    int inner = 36;
    WeightMatrix gateUp = data.weights(dtype, EXPERTS * 2 * inner, hidden);
    WeightMatrix down = data.weights(dtype, EXPERTS * inner, hidden);
    List<List<WeightMatrix>> in = new ArrayList<>();
    List<List<WeightMatrix>> out = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      int first = e * 2 * inner;
      in.add(List.of(gateUp.rows(first, 2, inner), gateUp.rows(first + 1, 2, inner)));
      out.add(List.of(down.rows(e * inner, 1, inner).transposed()));
    }
    double[][] logits = logits(20, Load.SPREAD);
    ModelSpec.Moe moe = moe(3, false, false);
    Routing routing = route(logits, moe);
    Routed routed = ReferenceExperts.route(logits, moe);
    double[][] x = data.matrix(20, hidden, 1);
    Tensor gate = backend.tensor(60, inner);
    Tensor up = backend.tensor(60, inner);
    ops.expertProject(backend.expertProjection(in, noBiases(2)), routing, upload(x), gate, up);
    close(download(gate), ReferenceExperts.project(routed, x, decode(in, 0), null), hidden, 0.4);
    close(download(up), ReferenceExperts.project(routed, x, decode(in, 1), null), hidden, 0.4);
    Tensor y = backend.tensor(20, hidden);
    ops.expertCombine(backend.expertProjection(out, noBiases(1)), routing, gate, y);
    double[][] inputs = doubles(download(gate));
    close(download(y), ReferenceExperts.combine(routed, inputs, decode(out, 0), null), inner, 0.4);
  }

  @ParameterizedTest
  @MethodSource("weightTypes")
  void routedRowsDoNotDependOnTheBatchOrTheThreads(DType dtype) {
    int in = 768;
    int rows = 23;
    int topK = 3;
    double[][] x = data.matrix(rows, in, 1);
    double[][] mid = data.matrix(rows * topK, in, 1);
    double[][] logits = logits(rows, Load.ONE);
    ModelSpec.Moe moe = moe(topK, true, true);
    ExpertProjection up = backend.expertProjection(experts(dtype, in, 100), noBiases(1));
    ExpertProjection down = backend.expertProjection(experts(dtype, in, 70), noBiases(1));
    Routing routing = route(logits, moe);
    Tensor between = backend.tensor(rows * topK, 100);
    Tensor out = backend.tensor(rows, 70);
    ops.expertProject(up, routing, upload(x), between);
    ops.expertCombine(down, routing, upload(mid), out);
    float[][] expectedUp = download(between);
    float[][] expectedDown = download(out);
    for (int threads : new int[] {1, 3}) {
      try (OpStream other = backend.openStream("other", threads)) {
        for (int n : new int[] {1, 2, 3, 4, 5, 6, 7, 8, 9, 22}) {
          for (int from = 0; from + n <= rows; from += n) {
            Routing part = route(Arrays.copyOfRange(logits, from, from + n), moe);
            Tensor someUp = backend.tensor(n * topK, 100);
            Tensor someDown = backend.tensor(n, 70);
            other.expertProject(up, part, upload(Arrays.copyOfRange(x, from, from + n)), someUp);
            other.expertCombine(
                down,
                part,
                upload(Arrays.copyOfRange(mid, from * topK, (from + n) * topK)),
                someDown);
            other.synchronize();
            alike(
                download(someUp),
                Arrays.copyOfRange(expectedUp, from * topK, (from + n) * topK),
                n + " rows");
            alike(
                download(someDown),
                Arrays.copyOfRange(expectedDown, from, from + n),
                n + " rows, combined");
          }
        }
      }
    }
  }

  /** A row that chooses experts 2 and 5, then 0, none of which comes to nothing. */
  protected static final double[][] OUT_OF_ORDER = {{1, -9, 2, -9, -9, 2}};

  /**
   * What experts give so that the order of the sum shows: 2 and 5 cancel each other out, and would
   * swallow what 0 gives if it were not added last.
   */
  protected static final double[] CANCELLING = {1, 0, 1 << 30, 0, 0, -(1 << 30)};

  @Test
  void sumsInTheOrderOfTheChoices() {
    double[][][] values = new double[EXPERTS][][];
    Arrays.setAll(values, e -> new double[][] {{CANCELLING[e]}});
    ModelSpec.Moe moe = moe(3, true, true);
    Tensor y = backend.tensor(1, 1);
    Tensor ones = upload(new double[][] {{1}, {1}, {1}});
    ops.expertCombine(columns(values), route(OUT_OF_ORDER, moe), ones, y);
    double last = ReferenceExperts.route(OUT_OF_ORDER, moe).weights()[0][2];
    close(download(y), new double[][] {{last}}, 1, 1);
  }

  @Test
  void zeroRoutedRowsDoNothing() {
    ModelSpec.Moe moe = moe(2, true, true);
    Routing none = backend.routing(4, 2, EXPERTS).first(0);
    ops.route(backend.wideTensor(0, EXPERTS), moe, none);
    ops.gatherRouting(backend.routing(1, 2, EXPERTS), new int[0], none);
    ExpertProjection p = backend.expertProjection(experts(DType.F32, 24, 36), noBiases(1));
    ops.expertProject(p, none, backend.tensor(0, 24), backend.tensor(0, 36));
    ops.expertCombine(p, none, backend.tensor(0, 24), backend.tensor(0, 36));
    NormParams norm = new NormParams(ModelSpec.Norm.RMS, vec(new double[36]), 1e-5f);
    ops.expertCombineAddNorm(
        Activation.SWIGLU,
        backend.tensor(0, 24),
        backend.tensor(0, 24),
        p,
        none,
        backend.tensor(0, 36),
        backend.wideTensor(0, 36),
        norm,
        backend.tensor(0, 36));
    ops.addNormRoute(
        backend.tensor(0, 36),
        backend.wideTensor(0, 36),
        norm,
        backend.tensor(0, 36),
        new Router(
            backend.projection(
                List.of(data.weights(DType.F32, EXPERTS, 36)), Collections.singletonList(null)),
            moe),
        backend.wideTensor(0, EXPERTS),
        none);
    ops.layerNorm(backend.tensor(0, 8), vec(new double[8]), 1e-5f, backend.tensor(0, 8));
    ops.clamp(backend.tensor(0, 8), 1);
  }

  @Test
  void wrongExpertsAreRefused() {
    List<List<WeightMatrix>> experts = experts(DType.F32, 24, 36);
    assertThatThrownBy(() -> backend.expertProjection(List.of(), List.of()))
        .isInstanceOf(IllegalArgumentException.class);
    List<List<WeightMatrix>> uneven = new ArrayList<>(experts);
    uneven.set(4, List.of(data.weights(DType.F32, 35, 24)));
    assertThatThrownBy(() -> backend.expertProjection(uneven, noBiases(1)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("expert 4")
        .hasMessageContaining("[35, 24]");
    List<List<Vec>> biases = new ArrayList<>(noBiases(1));
    biases.set(2, List.of(vec(new double[35])));
    assertThatThrownBy(() -> backend.expertProjection(experts, biases))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("expert 2 has a bias of 35");
  }

  @ParameterizedTest
  @ValueSource(booleans = {true, false})
  void wrongRoutedShapesAreRefusedAndChangeNothing(boolean combine) {
    ExpertProjection p = backend.expertProjection(experts(DType.F32, 24, 36), noBiases(1));
    double[][] logits = logits(3, Load.SPREAD);
    ModelSpec.Moe moe = moe(2, true, true);
    Routing routing = route(logits, moe);
    Tensor x = backend.tensor(combine ? 6 : 3, 24);
    Tensor y = upload(data.matrix(combine ? 3 : 6, 36, 1));
    float[][] before = download(y);
    Routing others = backend.routing(3, 2, EXPERTS + 1);
    Routing fewer = backend.routing(2, 2, EXPERTS);
    List<Runnable> wrong = new ArrayList<>();
    for (Routing r : List.of(others, fewer)) {
      wrong.add(() -> apply(combine, p, r, x, y));
    }
    wrong.add(() -> apply(combine, p, routing, backend.tensor(x.rows(), 25), y));
    wrong.add(() -> apply(combine, p, routing, x, y.first(2)));
    wrong.add(() -> apply(combine, p, routing, x, backend.tensor(y.rows(), 37)));
    wrong.add(() -> ops.route(backend.wideTensor(3, EXPERTS - 1), moe, routing));
    wrong.add(() -> ops.route(backend.wideTensor(2, EXPERTS), moe, routing));
    wrong.add(() -> ops.route(backend.wideTensor(3, EXPERTS), moe(3, true, true), routing));
    wrong.add(() -> ops.gatherRouting(routing, new int[] {0, 3}, fewer));
    wrong.add(() -> ops.gatherRouting(routing, new int[] {0}, fewer));
    wrong.add(() -> ops.gatherRouting(routing, new int[] {0}, routing.first(1)));
    wrong.add(() -> ops.gatherRouting(routing, new int[] {0, 1, 2}, others));
    for (int i = 0; i < wrong.size(); i++) {
      Runnable call = wrong.get(i);
      assertThatThrownBy(call::run).as("call %d", i).isInstanceOf(IllegalArgumentException.class);
    }
    assertThat(download(y)).isDeepEqualTo(before);
    holds(routing, ReferenceExperts.route(logits, moe));
    try (Backend other = create()) {
      assertThatThrownBy(() -> apply(combine, p, other.routing(3, 2, EXPERTS), x, y))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("another backend");
    }
    assertThatThrownBy(() -> backend.routing(2, EXPERTS + 1, EXPERTS))
        .isInstanceOf(IllegalArgumentException.class);
  }

  @Test
  void wrongNormsOfExpertsAreRefused() {
    ModelSpec.Moe moe = moe(2, true, true);
    ExpertProjection p = backend.expertProjection(experts(DType.F32, 24, 36), noBiases(1));
    Projection projection =
        backend.projection(
            List.of(data.weights(DType.F32, EXPERTS, 36)), Collections.singletonList(null));
    Router router = new Router(projection, moe);
    Router more = new Router(projection, moe(3, true, true));
    Routing routing = route(logits(3, Load.SPREAD), moe);
    Tensor logits = backend.wideTensor(3, EXPERTS);
    Tensor x = backend.tensor(3, 36);
    Tensor y = backend.wideTensor(3, 36);
    Tensor out = backend.tensor(3, 36);
    NormParams norm = new NormParams(ModelSpec.Norm.RMS, vec(new double[36]), 0);
    NormParams shorter = new NormParams(ModelSpec.Norm.RMS, vec(new double[35]), 0);
    Tensor in = backend.tensor(6, 24);
    Tensor narrow = backend.tensor(3, 35);
    Routing fewer = routing.first(2);
    List<Runnable> wrong =
        List.of(
            () -> ops.addNormRoute(x, y, shorter, out, router, logits, routing),
            () -> ops.addNormRoute(narrow, y, norm, out, router, logits, routing),
            () -> ops.addNormRoute(x, y, norm, out, router, logits, fewer),
            () -> ops.addNormRoute(x, y, norm, out, more, logits, routing),
            () -> combineAddNorm(p, routing, in, x, y, shorter, out),
            () -> combineAddNorm(p, routing, in, narrow, y, norm, out),
            () -> combineAddNorm(p, routing, in, x, y.first(2), norm, out),
            () -> combineAddNorm(p, routing, x, x, y, norm, out),
            () -> combineAddNorm(p, fewer, in, x, y, norm, out));
    for (int i = 0; i < wrong.size(); i++) {
      Runnable call = wrong.get(i);
      assertThatThrownBy(call::run).as("call %d", i).isInstanceOf(IllegalArgumentException.class);
    }
  }

  private void combineAddNorm(
      ExpertProjection p,
      Routing r,
      Tensor gate,
      Tensor sum,
      Tensor y,
      NormParams norm,
      Tensor out) {
    Tensor up = backend.tensor(6, 24);
    ops.expertCombineAddNorm(Activation.SWIGLU, gate, up, p, r, sum, y, norm, out);
  }

  private void apply(boolean combine, ExpertProjection p, Routing routing, Tensor x, Tensor y) {
    if (combine) {
      ops.expertCombine(p, routing, x, y);
    } else {
      ops.expertProject(p, routing, x, y);
    }
  }
}
