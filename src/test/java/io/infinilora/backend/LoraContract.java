package io.infinilora.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.reference.ReferenceOps;
import io.infinilora.core.DType;
import io.infinilora.core.LoraFactors;
import io.infinilora.core.WeightMatrix;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** Low-rank products in the mixes of adapters that serving produces. */
public abstract class LoraContract extends BackendContract {
  private static final int[] OUTS = {40, 16, 21};

  /** Whose row is whose: group sizes of 24 rows; -1 leaves that many rows without a group. */
  enum Mix {
    DISTINCT(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1),
    UNIFORM(4, 4, 4, 4, 4, 4),
    IDENTICAL(24),
    SKEWED(15, 5, 2, 1, 1),
    SOME(3, 0, 2),
    NONE();

    final int[] sizes;

    Mix(int... sizes) {
      this.sizes = sizes;
    }
  }

  @ParameterizedTest
  @EnumSource
  void addsLowRankProducts(Mix mix) {
    for (int in : new int[] {45, 96}) {
      check(mix, in, DType.F32);
      check(mix, in, DType.BF16);
    }
    check(mix, 64, DType.F16);
  }

  private void check(Mix mix, int in, DType dtype) {
    double[][] x = data.matrix(24, in, 1);
    double[][][] before = new double[OUTS.length][][];
    Tensor[] outs = new Tensor[OUTS.length];
    for (int t = 0; t < OUTS.length; t++) {
      before[t] = data.matrix(24, OUTS[t], 1);
      outs[t] = upload(before[t]);
    }
    int[] starts = new int[mix.sizes.length + 1];
    List<List<LoraFactors>> factors = new ArrayList<>();
    List<LoraWeights> weights = new ArrayList<>();
    for (int g = 0; g < mix.sizes.length; g++) {
      starts[g + 1] = starts[g] + mix.sizes[g];
      List<LoraFactors> site = new ArrayList<>();
      for (int t = 0; t < OUTS.length; t++) {
        int rank = new int[] {4, 1, 9, 16, 0}[(g + 2 * t) % 5];
        site.add(rank == 0 ? null : pair(dtype, rank, in, OUTS[t], 0.5f + g));
      }
      boolean base = g == 1 && mix == Mix.SKEWED;
      factors.add(base ? Arrays.asList(null, null, null) : site);
      weights.add(base ? null : backend.loraWeights(site));
    }
    int[] rows = new int[starts[mix.sizes.length]];
    // Scattered, so that groups are no ranges.
    Arrays.setAll(rows, i -> (i * 7 + 5) % 24);
    Tensor tx = upload(x);
    ops.loraAdd(new RowGroups(rows, starts), weights, tx, outs);

    for (int t = 0; t < OUTS.length; t++) {
      double[][] expected = before[t];
      for (int g = 0; g < mix.sizes.length; g++) {
        LoraFactors f = factors.get(g).get(t);
        for (int i = starts[g]; f != null && i < starts[g + 1]; i++) {
          double[][] low = ReferenceOps.linear(new double[][] {x[rows[i]]}, decode(f.a()), null);
          double[][] delta = ReferenceOps.linear(low, decode(f.b()), null);
          for (int c = 0; c < OUTS[t]; c++) {
            expected[rows[i]][c] += f.scale() * delta[0][c];
          }
        }
      }
      close(download(outs[t]), expected, in, 2);
    }
    weights.stream().filter(w -> w != null).forEach(backend::free);
  }

  protected LoraFactors pair(DType dtype, int rank, int in, int out, float scale) {
    return new LoraFactors(data.weights(dtype, rank, in), data.weights(dtype, out, rank), scale);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void takesStridedFactorsAndPacksSharedOnesOnce(DType dtype) {
    int in = 45;
    int rank = 7;
    WeightMatrix a = data.weights(dtype, in, 2 * rank).cols(1, 2, rank).transposed();
    WeightMatrix b = data.weights(dtype, 4 * rank, 20).rows(2, 3, rank).transposed();
    WeightMatrix both = data.weights(dtype, 40, rank);
    WeightMatrix other = both.rows(0, 2, 20);
    LoraWeights one = backend.loraWeights(List.of(new LoraFactors(a, b, 2)));
    LoraWeights two =
        backend.loraWeights(List.of(new LoraFactors(a, b, 2), new LoraFactors(a, other, 3)));
    LoraWeights apart =
        backend.loraWeights(
            List.of(
                new LoraFactors(a, b, 2), new LoraFactors(a.rows(0, 1, rank - 1), cut(other), 3)));
    // Another B of the same size, but neither another A nor zeros for its bias.
    assertThat(two.bytes()).isLessThan(apart.bytes());

    double[][] x = data.matrix(5, in, 1);
    int[] rows = {0, 1, 2, 3, 4};
    Tensor first = backend.tensor(5, 20);
    Tensor second = backend.tensor(5, 20);
    ops.loraAdd(new RowGroups(rows, new int[] {0, 5}), List.of(two), upload(x), first, second);
    double[][] low = ReferenceOps.linear(x, decode(a), null);
    close(download(first), scaled(ReferenceOps.linear(low, decode(b), null), 2), in, 2);
    close(download(second), scaled(ReferenceOps.linear(low, decode(other), null), 3), in, 2);
    LoraWeights steps =
        backend.loraWeights(
            List.of(new LoraFactors(a, other, 3), new LoraFactors(a, both.rows(0, 1, 20), 3)));
    Tensor everySecond = backend.tensor(5, 20);
    Tensor neighbours = backend.tensor(5, 20);
    ops.loraAdd(
        new RowGroups(rows, new int[] {0, 5}), List.of(steps), upload(x), everySecond, neighbours);
    assertThat(download(everySecond)).isDeepEqualTo(download(second));
    // Row 2 of the whole is row 1 of every second.
    assertThat(download(neighbours)[0][2]).isEqualTo(download(second)[0][1]);
    assertThat(download(neighbours)[0][1]).isNotEqualTo(download(second)[0][1]);
    Tensor alone = backend.tensor(5, 20);
    ops.loraAdd(new RowGroups(rows, new int[] {0, 5}), List.of(one), upload(x), alone);
    assertThat(download(alone)).isDeepEqualTo(download(first));
    for (LoraWeights w : List.of(one, two, apart, steps)) {
      backend.free(w);
    }
  }

  private static WeightMatrix cut(WeightMatrix b) {
    return b.cols(0, 1, b.cols() - 1);
  }

  protected static double[][] scaled(double[][] x, double factor) {
    double[][] y = new double[x.length][];
    Arrays.setAll(y, r -> Arrays.stream(x[r]).map(v -> v * factor).toArray());
    return y;
  }

  @Test
  void rowsDoNotDependOnTheMix() {
    int in = 70;
    double[][] x = data.matrix(40, in, 1);
    LoraWeights w = backend.loraWeights(List.of(pair(DType.BF16, 6, in, 33, 2)));
    int[] all = new int[40];
    Arrays.setAll(all, i -> i);
    Tensor together = backend.tensor(40, 33);
    ops.loraAdd(new RowGroups(all, new int[] {0, 40}), List.of(w), upload(x), together);
    float[][] expected = download(together);
    for (int r = 0; r < 40; r++) {
      Tensor alone = backend.tensor(1, 33);
      ops.loraAdd(
          new RowGroups(new int[] {0}, new int[] {0, 1}),
          List.of(w),
          upload(new double[][] {x[r]}),
          alone);
      alike(download(alone)[0], expected[r], "row " + r);
    }
  }

  /** So many groups that backends may cut the work in another way than for few. */
  @Test
  void rowsOfManyGroupsAreLikeThoseOfFew() {
    int in = 1100;
    int count = 250;
    int part = 25;
    double[][] x = data.matrix(count, in, 1);
    LoraWeights one = backend.loraWeights(List.of(pair(DType.BF16, 40, in, 33, 2)));
    LoraWeights other = backend.loraWeights(List.of(pair(DType.BF16, 6, in, 33, 3)));
    List<LoraWeights> weights = new ArrayList<>();
    int[] rows = new int[count];
    int[] starts = new int[count + 1];
    for (int g = 0; g < count; g++) {
      weights.add(g % 3 == 0 ? other : one);
      rows[g] = (g * 7 + 5) % count;
      starts[g + 1] = g + 1;
    }
    Tensor input = upload(x);
    Tensor together = backend.tensor(count, 33);
    ops.loraAdd(new RowGroups(rows, starts), weights, input, together);
    Tensor apart = backend.tensor(count, 33);
    for (int g = 0; g < count; g += part) {
      ops.loraAdd(
          new RowGroups(Arrays.copyOfRange(rows, g, g + part), Arrays.copyOf(starts, part + 1)),
          weights.subList(g, g + part),
          input,
          apart);
    }
    alike(download(together), download(apart), "rows of many groups");
  }

  @Test
  void addingToZerosAndThenAddingIsTheSameSum() {
    int in = 48;
    double[][] x = data.matrix(3, in, 1);
    double[][] y = data.matrix(3, 20, 1);
    LoraWeights w = backend.loraWeights(List.of(pair(DType.F32, 8, in, 20, 0.3f)));
    RowGroups groups = new RowGroups(new int[] {0, 2}, new int[] {0, 2});
    Tensor direct = upload(y);
    ops.loraAdd(groups, List.of(w), upload(x), direct);
    Tensor delta = backend.tensor(3, 20);
    ops.loraAdd(groups, List.of(w), upload(x), delta);
    Tensor later = upload(y);
    ops.add(delta, later);
    alike(download(later), download(direct), "sum");
  }

  @Test
  void describesAdapterWeightsAndRefusesFreedOnes() {
    LoraWeights w = backend.loraWeights(Arrays.asList(null, pair(DType.F32, 3, 32, 10, 1)));
    assertThat(w.rank(0)).isZero();
    assertThat(w.rank(1)).isEqualTo(3);
    assertThat(w.in()).isEqualTo(32);
    assertThat(w.bytes()).isGreaterThanOrEqualTo(4 * (3 * 32 + 10 * 3));
    backend.free(w);
    assertThatThrownBy(
            () ->
                ops.loraAdd(
                    new RowGroups(new int[] {0}, new int[] {0, 1}),
                    List.of(w),
                    backend.tensor(1, 32),
                    null,
                    backend.tensor(1, 10)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("freed");
  }
}
