package io.infinilora.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.reference.ReferenceExperts;
import io.infinilora.backend.reference.ReferenceExperts.Routed;
import io.infinilora.backend.reference.ReferenceOps;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.DType;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.WeightMatrix;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Low-rank products of routed layers, in the mixes of adapters that serving produces. */
public abstract class ExpertLoraContract extends ExpertContract {
  private static final int ROWS = 24;
  private static final int HIDDEN = 48;
  private static final int[] INNER = {36, 40};

  /** Whose row is whose: group sizes of 24 rows; what is left has no group. */
  enum Mix {
    DISTINCT(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    UNIFORM(4, 4, 4, 4, 4, 4),
    ZIPF(11, 5, 3, 2, 2, 1),
    IDENTICAL(24),
    SKEWED(19, 1, 1, 1, 1, 1),
    SOME(3, 0, 2),
    NONE();

    final int[] sizes;

    Mix(int... sizes) {
      this.sizes = sizes;
    }

    /** Rows scattered, so that groups are no ranges. */
    RowGroups groups() {
      int[] starts = new int[sizes.length + 1];
      for (int g = 0; g < sizes.length; g++) {
        starts[g + 1] = starts[g] + sizes[g];
      }
      int[] rows = new int[starts[sizes.length]];
      Arrays.setAll(rows, i -> (i * 7 + 5) % ROWS);
      return new RowGroups(rows, starts);
    }
  }

  /**
   * An adapter's pairs: ranks differ between experts and targets, some targets are absent, expert 2
   * has none, expert 5 has no list.
   */
  private List<List<LoraFactors>> adapter(int number, DType dtype, int in, int... outs) {
    List<List<LoraFactors>> experts = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      List<LoraFactors> site = new ArrayList<>();
      for (int t = 0; t < outs.length; t++) {
        int rank = e == 2 ? 0 : new int[] {12, 1, 4, 7, 12, 0}[(number + e + 2 * t) % 6];
        site.add(rank == 0 ? null : pair(dtype, rank, in, outs[t], 0.5f + number + e));
      }
      experts.add(e == 5 ? null : site);
    }
    return experts;
  }

  /** What the adapter adds to a routed row; null if nothing. */
  private double[] delta(List<List<LoraFactors>> adapter, int expert, int target, double[] x) {
    if (adapter == null || adapter.get(expert) == null) {
      return null;
    }
    LoraFactors f = adapter.get(expert).get(target);
    if (f == null) {
      return null;
    }
    double[][] low = ReferenceOps.linear(new double[][] {x}, decode(f.a()), null);
    return scaled(ReferenceOps.linear(low, decode(f.b()), null), f.scale())[0];
  }

  private static void add(double[] delta, double weight, double[] y) {
    for (int c = 0; delta != null && c < y.length; c++) {
      y[c] += weight * delta[c];
    }
  }

  @ParameterizedTest
  @EnumSource
  void addsRoutedProducts(Mix mix) {
    for (DType dtype : List.of(DType.F32, DType.BF16, DType.F16)) {
      checkAdd(mix, dtype, 3, Load.SPREAD);
    }
    checkAdd(mix, DType.F32, 1, Load.ONE);
    checkAdd(mix, DType.BF16, EXPERTS, Load.SPREAD);
  }

  private void checkAdd(Mix mix, DType dtype, int topK, Load load) {
    RowGroups groups = mix.groups();
    List<List<List<LoraFactors>>> adapters = new ArrayList<>();
    List<ExpertLoraWeights> weights = new ArrayList<>();
    for (int g = 0; g < groups.groups(); g++) {
      boolean base = g == 1 && mix == Mix.SKEWED;
      adapters.add(base ? null : adapter(g, dtype, HIDDEN, INNER));
      weights.add(base ? null : backend.expertLoraWeights(adapters.get(g)));
    }
    ModelSpec.Moe moe = moe(topK, true, true);
    double[][] logits = logits(ROWS, load);
    Routed routed = ReferenceExperts.route(logits, moe);
    double[][] x = data.matrix(ROWS, HIDDEN, 1);
    Tensor[] outs = new Tensor[INNER.length];
    double[][][] expected = new double[INNER.length][][];
    for (int t = 0; t < INNER.length; t++) {
      expected[t] = data.matrix(ROWS * topK, INNER[t], 1);
      outs[t] = upload(expected[t]);
    }
    ops.expertLoraAdd(groups, weights, route(logits, moe), upload(x), outs);
    for (int g = 0; g < groups.groups(); g++) {
      for (int i = groups.starts()[g]; i < groups.starts()[g + 1]; i++) {
        int r = groups.rows()[i];
        for (int j = 0; j < topK; j++) {
          for (int t = 0; t < INNER.length; t++) {
            double[] delta = delta(adapters.get(g), routed.choices()[r][j], t, x[r]);
            add(delta, 1, expected[t][r * topK + j]);
          }
        }
      }
    }
    for (int t = 0; t < INNER.length; t++) {
      close(download(outs[t]), expected[t], HIDDEN, 4);
    }
    free(weights);
  }

  @ParameterizedTest
  @EnumSource
  void combinesRoutedProducts(Mix mix) {
    for (DType dtype : List.of(DType.F32, DType.BF16, DType.F16)) {
      checkCombine(mix, dtype, 3, Load.SPREAD);
    }
    checkCombine(mix, DType.F32, 1, Load.ONE);
    checkCombine(mix, DType.BF16, EXPERTS, Load.SPREAD);
  }

  private void checkCombine(Mix mix, DType dtype, int topK, Load load) {
    int in = INNER[0];
    RowGroups groups = mix.groups();
    List<List<List<LoraFactors>>> adapters = new ArrayList<>();
    List<ExpertLoraWeights> weights = new ArrayList<>();
    for (int g = 0; g < groups.groups(); g++) {
      boolean base = g == 1 && mix == Mix.SKEWED;
      adapters.add(base ? null : adapter(g, dtype, in, HIDDEN));
      weights.add(base ? null : backend.expertLoraWeights(adapters.get(g)));
    }
    ModelSpec.Moe moe = moe(topK, true, false);
    double[][] logits = logits(ROWS, load);
    Routed routed = ReferenceExperts.route(logits, moe);
    double[][] x = data.matrix(ROWS * topK, in, 1);
    double[][] expected = data.matrix(ROWS, HIDDEN, 1);
    Tensor out = upload(expected);
    ops.expertLoraCombine(groups, weights, route(logits, moe), upload(x), out);
    for (int g = 0; g < groups.groups(); g++) {
      for (int i = groups.starts()[g]; i < groups.starts()[g + 1]; i++) {
        int r = groups.rows()[i];
        for (int j = 0; j < topK; j++) {
          double[] delta = delta(adapters.get(g), routed.choices()[r][j], 0, x[r * topK + j]);
          add(delta, routed.weights()[r][j], expected[r]);
        }
      }
    }
    close(download(out), expected, in, 4);
    free(weights);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void termsOfAnySplitOfTheExpertsSumToTheWhole(DType dtype) {
    int in = INNER[0];
    int topK = 3;
    RowGroups groups = Mix.ZIPF.groups();
    List<List<List<LoraFactors>>> adapters = new ArrayList<>();
    for (int g = 0; g < groups.groups(); g++) {
      adapters.add(g == 2 ? null : adapter(g, dtype, in, HIDDEN));
    }
    Routing routing = route(logits(ROWS, Load.SPREAD), moe(topK, true, false));
    Tensor x = upload(data.matrix(ROWS * topK, in, 1));
    double[][] base = data.matrix(ROWS, HIDDEN, 1);
    List<ExpertLoraWeights> whole = parts(adapters, 0, EXPERTS);
    Tensor expected = upload(base);
    ops.expertLoraCombine(groups, whole, routing, x, expected);
    free(whole);
    int[] all = new int[ROWS];
    Arrays.setAll(all, i -> i);
    for (int split = 0; split <= EXPERTS; split++) {
      Tensor terms = backend.tensor(ROWS * topK, HIDDEN);
      Tensor others = backend.tensor(ROWS * topK, HIDDEN);
      List<ExpertLoraWeights> first = parts(adapters, 0, split);
      List<ExpertLoraWeights> second = parts(adapters, split, EXPERTS);
      ops.expertLoraTerms(groups, first, routing, x, terms);
      ops.expertLoraTerms(groups, second, routing, x, others);
      ops.add(others, terms);
      Tensor sum = upload(base);
      ops.scatterAddTerms(terms, topK, all, sum);
      alike(download(sum), download(expected), "split at " + split);
      free(first);
      free(second);
    }
  }

  /** Weights of some of the experts; null for adapters that have none of them. */
  private List<ExpertLoraWeights> parts(List<List<List<LoraFactors>>> adapters, int from, int to) {
    List<ExpertLoraWeights> weights = new ArrayList<>();
    for (List<List<LoraFactors>> adapter : adapters) {
      List<List<LoraFactors>> part = new ArrayList<>(Collections.nCopies(EXPERTS, null));
      boolean any = false;
      for (int e = from; e < to && adapter != null; e++) {
        part.set(e, adapter.get(e));
        any |= adapter.get(e) != null && adapter.get(e).getFirst() != null;
      }
      weights.add(any ? backend.expertLoraWeights(part) : null);
    }
    return weights;
  }

  @Test
  void termsAreAddedWhereTheAdapterHasTheExpert() {
    int topK = 3;
    int in = INNER[0];
    RowGroups groups = Mix.SOME.groups();
    List<List<List<LoraFactors>>> adapters = new ArrayList<>();
    for (int g = 0; g < groups.groups(); g++) {
      adapters.add(adapter(g, DType.F32, in, HIDDEN));
    }
    List<ExpertLoraWeights> weights = parts(adapters, 0, EXPERTS);
    ModelSpec.Moe moe = moe(topK, true, true);
    double[][] logits = logits(ROWS, Load.SPREAD);
    Routed routed = ReferenceExperts.route(logits, moe);
    double[][] x = data.matrix(ROWS * topK, in, 1);
    double[][] expected = data.matrix(ROWS * topK, HIDDEN, 1);
    Tensor out = upload(expected);
    ops.expertLoraTerms(groups, weights, route(logits, moe), upload(x), out);
    for (int g = 0; g < groups.groups(); g++) {
      for (int i = groups.starts()[g]; i < groups.starts()[g + 1]; i++) {
        for (int j = 0; j < topK; j++) {
          int row = groups.rows()[i];
          double[] delta = delta(adapters.get(g), routed.choices()[row][j], 0, x[row * topK + j]);
          add(delta, routed.weights()[row][j], expected[row * topK + j]);
        }
      }
    }
    close(download(out), expected, in, 4);
    free(weights);
  }

  @Test
  void termsAreSummedInOrderBeforeTheyAreAdded() {
    double[][] x = data.matrix(4 * 3, 37, 1);
    double[][] y = data.matrix(9, 37, 1e-7);
    int[] rows = {5, 0, 8, 2};
    Tensor sum = upload(y);
    ops.scatterAddTerms(upload(x), 3, rows, sum);
    float[][] expected = download(upload(y));
    for (int i = 0; i < rows.length; i++) {
      for (int c = 0; c < 37; c++) {
        float terms = (float) x[3 * i][c] + (float) x[3 * i + 1][c] + (float) x[3 * i + 2][c];
        expected[rows[i]][c] = (float) precision().rounded(expected[rows[i]][c] + terms);
      }
    }
    assertThat(download(sum)).isDeepEqualTo(expected);
    ops.scatterAddTerms(backend.tensor(0, 37), 3, new int[0], sum);
    assertThat(download(sum)).isDeepEqualTo(expected);
    Tensor six = upload(data.matrix(6, 37, 1));
    List<Runnable> wrong =
        List.of(
            () -> ops.scatterAddTerms(six, 3, new int[] {1}, sum),
            () -> ops.scatterAddTerms(six, 2, new int[] {0, 1, 9}, sum),
            () -> ops.scatterAddTerms(six, 0, new int[0], sum),
            () -> ops.scatterAddTerms(six, 1, new int[] {0, 1, 2, 3, 4, 5}, six),
            () -> ops.scatterAddTerms(six, 3, new int[] {0, 1}, backend.tensor(9, 36)));
    for (int i = 0; i < wrong.size(); i++) {
      Runnable call = wrong.get(i);
      assertThatThrownBy(call::run).as("call %d", i).isInstanceOf(IllegalArgumentException.class);
    }
    assertThat(download(sum)).isDeepEqualTo(expected);
  }

  private void free(List<ExpertLoraWeights> weights) {
    weights.stream().filter(w -> w != null).forEach(backend::free);
  }

  @Test
  void sumsRoutedProductsInTheOrderOfTheChoices() {
    List<List<LoraFactors>> experts = new ArrayList<>();
    for (double value : CANCELLING) {
      WeightMatrix a = WeightMatrix.of(TestData.f32(new double[][] {{1}}));
      WeightMatrix b = WeightMatrix.of(TestData.f32(new double[][] {{value}}));
      experts.add(List.of(new LoraFactors(a, b, 1)));
    }
    ModelSpec.Moe moe = moe(3, true, true);
    Tensor y = backend.tensor(1, 1);
    Tensor ones = upload(new double[][] {{1}, {1}, {1}});
    RowGroups one = new RowGroups(new int[] {0}, new int[] {0, 1});
    List<ExpertLoraWeights> weights = List.of(backend.expertLoraWeights(experts));
    ops.expertLoraCombine(one, weights, route(OUT_OF_ORDER, moe), ones, y);
    double last = ReferenceExperts.route(OUT_OF_ORDER, moe).weights()[0][2];
    close(download(y), new double[][] {{last}}, 1, 1);
    free(weights);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "BF16"})
  void routedRowsDoNotDependOnTheMix(DType dtype) {
    int rows = 90;
    int topK = 3;
    double[][] x = data.matrix(rows, HIDDEN, 1);
    double[][] mid = data.matrix(rows * topK, INNER[0], 1);
    double[][] logits = logits(rows, Load.ONE);
    ModelSpec.Moe moe = moe(topK, true, true);
    List<ExpertLoraWeights> up = new ArrayList<>();
    List<ExpertLoraWeights> down = new ArrayList<>();
    for (int g = 0; g < 3; g++) {
      up.add(backend.expertLoraWeights(adapter(g, dtype, HIDDEN, INNER)));
      down.add(backend.expertLoraWeights(adapter(g, dtype, INNER[0], HIDDEN)));
    }
    int[] order = new int[rows];
    Arrays.setAll(order, i -> (i * 7 + 5) % rows);
    RowGroups mixed = new RowGroups(order, new int[] {0, 60, 61, rows});
    Tensor[] between = {
      backend.tensor(rows * topK, INNER[0]), backend.tensor(rows * topK, INNER[1])
    };
    Tensor out = backend.tensor(rows, HIDDEN);
    Routing routing = route(logits, moe);
    ops.expertLoraAdd(mixed, up, routing, upload(x), between);
    ops.expertLoraCombine(mixed, down, routing, upload(mid), out);
    float[][] expectedUp = download(between[1]);
    float[][] expectedDown = download(out);
    RowGroups first = new RowGroups(new int[] {0}, new int[] {0, 1});
    try (OpStream single = backend.openStream("single", 1)) {
      for (int i = 0; i < rows; i++) {
        int r = order[i];
        int g = i < 60 ? 0 : i < 61 ? 1 : 2;
        Routing one = route(new double[][] {logits[r]}, moe);
        Tensor[] someUp = {backend.tensor(topK, INNER[0]), backend.tensor(topK, INNER[1])};
        Tensor someDown = backend.tensor(1, HIDDEN);
        single.expertLoraAdd(first, List.of(up.get(g)), one, upload(new double[][] {x[r]}), someUp);
        single.expertLoraCombine(
            first,
            List.of(down.get(g)),
            one,
            upload(Arrays.copyOfRange(mid, r * topK, (r + 1) * topK)),
            someDown);
        alike(
            download(someUp[1]),
            Arrays.copyOfRange(expectedUp, r * topK, (r + 1) * topK),
            "row " + r);
        alike(download(someDown)[0], expectedDown[r], "row " + r);
      }
    }
    free(up);
    free(down);
  }

  /** So many rows and groups that backends may cut the work in another way than for few. */
  @Test
  void routedRowsOfManyGroupsAreLikeThoseOfFew() {
    int in = 1100;
    int count = 220;
    int part = 20;
    int topK = 3;
    ModelSpec.Moe moe = moe(topK, true, true);
    double[][] logits = logits(count, Load.SPREAD);
    Routing routing = route(logits, moe);
    Tensor x = upload(data.matrix(count, in, 1));
    Tensor mid = upload(data.matrix(count * topK, in, 1));
    List<ExpertLoraWeights> own = new ArrayList<>();
    for (int g = 0; g < 2; g++) {
      own.add(backend.expertLoraWeights(adapter(g, DType.BF16, in, HIDDEN)));
    }
    List<ExpertLoraWeights> weights = new ArrayList<>();
    int[] rows = new int[count];
    int[] starts = new int[count + 1];
    for (int g = 0; g < count; g++) {
      weights.add(own.get(g % 3 == 0 ? 1 : 0));
      rows[g] = (g * 7 + 5) % count;
      starts[g + 1] = g + 1;
    }
    RowGroups all = new RowGroups(rows, starts);
    Tensor up = backend.tensor(count * topK, HIDDEN);
    Tensor down = backend.tensor(count, HIDDEN);
    ops.expertLoraAdd(all, weights, routing, x, up);
    ops.expertLoraCombine(all, weights, routing, mid, down);
    Tensor partsUp = backend.tensor(count * topK, HIDDEN);
    Tensor partsDown = backend.tensor(count, HIDDEN);
    for (int g = 0; g < count; g += part) {
      RowGroups some =
          new RowGroups(Arrays.copyOfRange(rows, g, g + part), Arrays.copyOf(starts, part + 1));
      List<ExpertLoraWeights> theirs = weights.subList(g, g + part);
      ops.expertLoraAdd(some, theirs, routing, x, partsUp);
      ops.expertLoraCombine(some, theirs, routing, mid, partsDown);
    }
    alike(download(up), download(partsUp), "added");
    alike(download(down), download(partsDown), "combined");
    assertThat(Arrays.deepEquals(download(up), new float[count * topK][HIDDEN])).isFalse();
    free(own);
  }

  @Test
  void addingRoutedProductsToZerosAndThenAddingIsTheSameSum() {
    int topK = 3;
    ModelSpec.Moe moe = moe(topK, false, false);
    Routing routing = route(logits(ROWS, Load.SPREAD), moe);
    RowGroups groups = Mix.ZIPF.groups();
    List<ExpertLoraWeights> up = new ArrayList<>();
    List<ExpertLoraWeights> down = new ArrayList<>();
    for (int g = 0; g < groups.groups(); g++) {
      up.add(backend.expertLoraWeights(adapter(g, DType.F32, HIDDEN, INNER[0])));
      down.add(backend.expertLoraWeights(adapter(g, DType.F32, INNER[0], HIDDEN)));
    }
    Tensor x = upload(data.matrix(ROWS, HIDDEN, 1));
    Tensor mid = upload(data.matrix(ROWS * topK, INNER[0], 1));
    double[][] before = data.matrix(ROWS * topK, INNER[0], 1);
    Tensor direct = upload(before);
    ops.expertLoraAdd(groups, up, routing, x, direct);
    Tensor delta = backend.tensor(ROWS * topK, INNER[0]);
    ops.expertLoraAdd(groups, up, routing, x, delta);
    Tensor later = upload(before);
    ops.add(delta, later);
    alike(download(later), download(direct), "sum");

    double[][] base = data.matrix(ROWS, HIDDEN, 1);
    Tensor directSum = upload(base);
    ops.expertLoraCombine(groups, down, routing, mid, directSum);
    Tensor sum = backend.tensor(ROWS, HIDDEN);
    ops.expertLoraCombine(groups, down, routing, mid, sum);
    Tensor laterSum = upload(base);
    ops.add(sum, laterSum);
    alike(download(laterSum), download(directSum), "sum");
    free(up);
    free(down);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void factorsThatExpertsShareAreHeldOnce(DType dtype) {
    // As adapters of fused experts have them: one A, a stack of B; for down the roles are swapped.
    int rank = 12;
    int inner = INNER[0];
    WeightMatrix a = data.weights(dtype, rank, HIDDEN);
    WeightMatrix b = data.weights(dtype, EXPERTS * 2 * inner, rank);
    List<List<LoraFactors>> up = new ArrayList<>();
    List<List<LoraFactors>> down = new ArrayList<>();
    List<List<LoraFactors>> apart = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      int first = e * 2 * inner;
      WeightMatrix gate = b.rows(first, 2, inner);
      up.add(
          List.of(new LoraFactors(a, gate, 2), new LoraFactors(a, b.rows(first + 1, 2, inner), 2)));
      down.add(List.of(new LoraFactors(gate.transposed(), a.transposed(), 3)));
      apart.add(List.of(pair(dtype, rank, HIDDEN, inner, 2), pair(dtype, rank, HIDDEN, inner, 2)));
    }
    ExpertLoraWeights shared = backend.expertLoraWeights(up);
    ExpertLoraWeights own = backend.expertLoraWeights(apart);
    long aBytes =
        (long) rank * HIDDEN * (dtype == DType.BF16 || precision() == Precision.BF16 ? 2 : 4);
    assertThat(own.bytes() - shared.bytes()).isGreaterThanOrEqualTo((2 * EXPERTS - 1) * aBytes);

    ModelSpec.Moe moe = moe(3, true, true);
    double[][] logits = logits(ROWS, Load.SPREAD);
    Routed routed = ReferenceExperts.route(logits, moe);
    Routing routing = route(logits, moe);
    double[][] x = data.matrix(ROWS, HIDDEN, 1);
    Tensor[] outs = {backend.tensor(ROWS * 3, inner), backend.tensor(ROWS * 3, inner)};
    RowGroups all = Mix.IDENTICAL.groups();
    ops.expertLoraAdd(all, List.of(shared), routing, upload(x), outs);
    for (int t = 0; t < 2; t++) {
      double[][] expected = new double[ROWS * 3][inner];
      for (int i = 0; i < expected.length; i++) {
        add(delta(up, routed.choices()[i / 3][i % 3], t, x[i / 3]), 1, expected[i]);
      }
      close(download(outs[t]), expected, HIDDEN, 2);
    }
    ExpertLoraWeights back = backend.expertLoraWeights(down);
    double[][] mid = data.matrix(ROWS * 3, inner, 1);
    Tensor sum = backend.tensor(ROWS, HIDDEN);
    ops.expertLoraCombine(all, List.of(back), routing, upload(mid), sum);
    double[][] expected = new double[ROWS][HIDDEN];
    for (int i = 0; i < mid.length; i++) {
      int e = routed.choices()[i / 3][i % 3];
      add(delta(down, e, 0, mid[i]), routed.weights()[i / 3][i % 3], expected[i / 3]);
    }
    close(download(sum), expected, inner, 2);
    free(List.of(shared, own, back));
  }

  @Test
  void describesExpertAdaptersAndRefusesFreedOnes() {
    ExpertLoraWeights w = backend.expertLoraWeights(adapter(0, DType.F32, HIDDEN, INNER));
    assertThat(w.experts()).isEqualTo(EXPERTS);
    assertThat(w.in()).isEqualTo(HIDDEN);
    assertThat(w.rank(0, 0)).isEqualTo(12);
    assertThat(w.rank(0, 1)).isEqualTo(4);
    assertThat(w.rank(2, 0)).isZero();
    assertThat(w.rank(3, 1)).isZero();
    assertThat(w.rank(5, 1)).isZero();
    assertThat(w.bytes()).isGreaterThanOrEqualTo(4 * 12 * (HIDDEN + INNER[0]));
    Routing routing = route(logits(1, Load.SPREAD), moe(2, true, true));
    RowGroups one = new RowGroups(new int[] {0}, new int[] {0, 1});
    Tensor x = backend.tensor(1, HIDDEN);
    Tensor gate = backend.tensor(2, INNER[0]);
    Tensor up = backend.tensor(2, INNER[1]);
    ops.expertLoraAdd(one, List.of(w), routing, x, gate, up);
    backend.free(w);
    assertThatThrownBy(() -> ops.expertLoraAdd(one, List.of(w), routing, x, gate, up))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("freed");
  }

  @Test
  void wrongExpertAdaptersAreRefused() {
    List<List<LoraFactors>> nobody = Collections.nCopies(EXPERTS, null);
    assertThatThrownBy(() -> backend.expertLoraWeights(nobody))
        .isInstanceOf(IllegalArgumentException.class);
    List<List<LoraFactors>> uneven = new ArrayList<>(adapter(0, DType.F32, HIDDEN, INNER));
    uneven.set(1, Collections.singletonList(null));
    assertThatThrownBy(() -> backend.expertLoraWeights(uneven))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("targets");
    uneven.set(1, List.of(pair(DType.F32, 4, HIDDEN, 36, 1), pair(DType.F32, 4, HIDDEN, 39, 1)));
    assertThatThrownBy(() -> backend.expertLoraWeights(uneven))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("39");
  }

  @Test
  void wrongShapesOfRoutedProductsAreRefusedAndChangeNothing() {
    ExpertLoraWeights w = backend.expertLoraWeights(adapter(0, DType.F32, HIDDEN, INNER));
    ExpertLoraWeights down = backend.expertLoraWeights(adapter(0, DType.F32, INNER[0], HIDDEN));
    Routing routing = route(logits(3, Load.SPREAD), moe(2, true, true));
    RowGroups two = new RowGroups(new int[] {0, 2}, new int[] {0, 2});
    Tensor x = upload(data.matrix(3, HIDDEN, 1));
    Tensor mid = upload(data.matrix(6, INNER[0], 1));
    Tensor gate = upload(data.matrix(6, INNER[0], 1));
    Tensor up = upload(data.matrix(6, INNER[1], 1));
    Tensor sum = upload(data.matrix(3, HIDDEN, 1));
    float[][] gateBefore = download(gate);
    float[][] sumBefore = download(sum);
    Routing others = backend.routing(3, 2, EXPERTS + 1);
    RowGroups beyond = new RowGroups(new int[] {0, 3}, new int[] {0, 2});
    RowGroups twice = new RowGroups(new int[] {1, 1}, new int[] {0, 2});
    List<Runnable> wrong =
        List.of(
            () -> ops.expertLoraAdd(two, List.of(), routing, x, gate, up),
            () -> ops.expertLoraAdd(beyond, List.of(w), routing, x, gate, up),
            () -> ops.expertLoraAdd(twice, List.of(w), routing, x, gate, up),
            () -> ops.expertLoraAdd(two, List.of(w), others, x, gate, up),
            () -> ops.expertLoraAdd(two, List.of(w), routing, x.first(2), gate, up),
            () -> ops.expertLoraAdd(two, List.of(w), routing, x, gate),
            () -> ops.expertLoraAdd(two, List.of(w), routing, x, gate, null),
            () -> ops.expertLoraAdd(two, List.of(w), routing, x, up, gate),
            () -> ops.expertLoraAdd(two, List.of(w), routing, x, gate.first(3), up),
            () -> ops.expertLoraCombine(two, List.of(down), routing, x, sum),
            () -> ops.expertLoraCombine(two, List.of(down), routing, mid.first(3), sum),
            () -> ops.expertLoraCombine(two, List.of(down), routing, mid, sum.first(2)),
            () -> ops.expertLoraCombine(two, List.of(down), routing, mid, gate.first(3)),
            () -> ops.expertLoraCombine(two, List.of(w), routing, mid, sum),
            () -> ops.expertLoraTerms(two, List.of(down), routing, mid, sum),
            () -> ops.expertLoraTerms(two, List.of(down), routing, x, gate),
            () -> ops.expertLoraTerms(two, List.of(down), routing, mid, gate),
            () -> ops.expertLoraTerms(two, List.of(w), routing, mid, gate),
            () -> ops.expertLoraCombine(two, List.of(down), others, mid, sum));
    for (int i = 0; i < wrong.size(); i++) {
      Runnable call = wrong.get(i);
      assertThatThrownBy(call::run).as("call %d", i).isInstanceOf(IllegalArgumentException.class);
    }
    assertThat(download(gate)).isDeepEqualTo(gateBefore);
    assertThat(download(sum)).isDeepEqualTo(sumBefore);
    Routing none = routing.first(0);
    RowGroups nobody = new RowGroups(new int[0], new int[] {0, 0});
    ops.expertLoraAdd(nobody, List.of(w), none, x.first(0), gate.first(0), up.first(0));
    ops.expertLoraCombine(nobody, List.of(down), none, mid.first(0), sum.first(0));
    free(List.of(w, down));
  }
}
