package io.infinilora.backend;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import io.infinilora.backend.reference.ReferenceOps;
import io.infinilora.backend.reference.ReferenceWeights;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.Activation;
import io.infinilora.core.DType;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.RopeSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What the model code relies on, for any backend; the oracle is {@link ReferenceOps} in double. */
public abstract class BackendContract {
  protected Backend backend;
  protected OpStream ops;
  protected final TestData data = new TestData(11, precision());

  /** The backend under test. */
  protected abstract Backend create();

  /** The backend of a test; {@link #release} gives it back. */
  protected Backend acquire() {
    return create();
  }

  /** Takes back what {@link #acquire} gave. */
  protected void release(Backend backend) {
    backend.close();
  }

  /** What its tensors hold; called before anything else. */
  protected Precision precision() {
    return Precision.FLOAT32;
  }

  @BeforeEach
  void open() {
    backend = acquire();
    ops = backend.openStream("test", 2);
  }

  @AfterEach
  void close() {
    ops.close();
    release(backend);
  }

  /** Writes all of a new tensor from the host: no operator does, and weights must be finite. */
  protected abstract void write(Tensor tensor, double[][] values);

  /** A tensor on the device with these values. */
  protected Tensor upload(double[][] values) {
    return written(backend.tensor(values.length, values[0].length), values);
  }

  /** The same in float32. */
  protected Tensor uploadWide(double[][] values) {
    return written(backend.wideTensor(values.length, values[0].length), values);
  }

  private Tensor written(Tensor tensor, double[][] values) {
    write(tensor, values);
    return tensor;
  }

  protected float[][] download(Tensor t) {
    float[][] rows = new float[t.rows()][t.cols()];
    for (int r = 0; r < rows.length; r++) {
      ops.read(t, r, rows[r]);
    }
    return rows;
  }

  protected Vec vec(double[] values) {
    return backend.vec(TestData.f32(new double[][] {values}));
  }

  /** The weights' values, as the device decodes them. */
  protected double[][] decode(TensorView view) {
    Tensor t = backend.tensor(view.rows(), view.cols());
    int[] all = new int[view.rows()];
    Arrays.setAll(all, i -> i);
    ops.embed(backend.embedding(view), all, t);
    return doubles(download(t));
  }

  /** The values of a matrix: as the device decodes them where only GGUF defines the type. */
  protected double[][] decode(WeightMatrix matrix) {
    return switch (matrix.dtype()) {
      case F32, F16, BF16, MXFP4, FP4 -> ReferenceWeights.decode(matrix);
      default -> {
        double[][] rows = decode(matrix.tensor());
        double[][] picked = new double[matrix.rows()][];
        Arrays.setAll(picked, i -> rows[(int) (matrix.element(i) / matrix.tensor().cols())]);
        yield picked;
      }
    };
  }

  /** Types that weights may have. */
  protected static Set<DType> weightTypes() {
    return EnumSet.complementOf(EnumSet.of(DType.U8));
  }

  protected static double[][] doubles(float[][] rows) {
    double[][] d = new double[rows.length][];
    for (int r = 0; r < rows.length; r++) {
      d[r] = new double[rows[r].length];
      for (int c = 0; c < rows[r].length; c++) {
        d[r][c] = rows[r][c];
      }
    }
    return d;
  }

  /** Sums of {@code length} products of magnitude {@code magnitude}. */
  protected void close(float[][] actual, double[][] expected, int length, double magnitude) {
    assertThat(actual.length).isEqualTo(expected.length);
    for (int r = 0; r < actual.length; r++) {
      assertThat(actual[r].length).isEqualTo(expected[r].length);
      for (int c = 0; c < actual[r].length; c++) {
        double error = Math.abs(actual[r][c] - expected[r][c]);
        double tolerance = precision().tolerance(expected[r][c], length, magnitude);
        if (!(error <= tolerance)) {
          assertThat(actual[r][c])
              .as("row %d column %d, tolerance %s", r, c, tolerance)
              .isEqualTo((float) expected[r][c]);
        }
      }
    }
  }

  /** The same rows, computed in two ways: equal in float32, within its rounding in bf16. */
  protected void alike(float[][] actual, float[][] expected, String what) {
    assertThat(actual.length).as(what).isEqualTo(expected.length);
    for (int r = 0; r < actual.length; r++) {
      alike(actual[r], expected[r], what + ", row " + r);
    }
  }

  /** Likewise. */
  protected void alike(float[] actual, float[] expected, String what) {
    assertThat(actual.length).as(what).isEqualTo(expected.length);
    double most = 0;
    for (float value : expected) {
      most = Math.max(most, Math.abs(value));
    }
    for (int c = 0; c < actual.length; c++) {
      if (!(Math.abs(actual[c] - expected[c]) <= precision().alike(expected[c], most))) {
        assertThat(actual[c]).as("%s, column %d", what, c).isEqualTo(expected[c]);
      }
    }
  }

  @ParameterizedTest
  @CsvSource({"1,256,1", "1,256,33", "7,256,70", "33,1024,48", "300,512,40", "5,768,389"})
  void projectsEveryType(int rows, int in, int out) {
    for (DType dtype : weightTypes()) {
      WeightMatrix w = data.weights(dtype, out, in);
      double[][] x = data.matrix(rows, in, 1);
      Tensor y = backend.tensor(rows, out);
      List<Vec> none = new ArrayList<>();
      none.add(null);
      ops.project(backend.projection(List.of(w), none), upload(x), y);
      double[][] decoded = decode(w);
      double most =
          Arrays.stream(decoded).flatMapToDouble(Arrays::stream).map(Math::abs).max().orElse(0);
      close(download(y), ReferenceOps.linear(x, decoded, null), in, most);
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void projectsOddSizesInAnyRowOrderWithBiases(DType dtype) {
    int in = 47;
    double[][] x = data.matrix(9, in, 1);
    TensorView a = data.tensor(dtype, 37, in);
    TensorView b = data.tensor(dtype, 5, in);
    int[] order = new int[37];
    Arrays.setAll(order, i -> (i * 5 + 3) % 37);
    double[] bias = data.matrix(1, 5, 1)[0];
    Tensor ya = backend.tensor(9, 37);
    Tensor yb = backend.tensor(9, 5);
    Projection p =
        backend.projection(
            List.of(WeightMatrix.of(a, order), WeightMatrix.of(b)), Arrays.asList(null, vec(bias)));
    assertThat(p.outputs()).isEqualTo(2);
    assertThat(p.in()).isEqualTo(in);
    assertThat(p.out(1)).isEqualTo(5);
    ops.project(p, upload(x), ya, yb);

    double[][] decoded = decode(a);
    double[][] permuted = new double[37][];
    Arrays.setAll(permuted, i -> decoded[order[i]]);
    close(download(ya), ReferenceOps.linear(x, permuted, null), in, 0.4);
    close(download(yb), ReferenceOps.linear(x, decode(b), bias), in, 0.4);
  }

  @ParameterizedTest
  @EnumSource(names = {"F32", "F16", "BF16"})
  void projectsStridedMatrices(DType dtype) {
    int in = 45;
    WeightMatrix whole = data.weights(dtype, 90, 80);
    List<WeightMatrix> views =
        List.of(
            whole.rows(1, 2, 37).cols(2, 1, in),
            whole.rows(0, 2, in).transposed(),
            whole.transposed().cols(3, 1, in).rows(4, 1, 35),
            whole.cols(5, 1, in).rows(11, 3, 9),
            new WeightMatrix(
                whole.tensor(), 7, 4, in, 80, 1, new int[] {2, 0, 3, 1}, whole.scales()));
    double[][] x = data.matrix(9, in, 1);
    List<Vec> none = new ArrayList<>();
    Tensor[] outs = new Tensor[views.size()];
    for (int i = 0; i < outs.length; i++) {
      none.add(null);
      outs[i] = backend.tensor(9, views.get(i).rows());
    }
    ops.project(backend.projection(views, none), upload(x), outs);
    for (int i = 0; i < outs.length; i++) {
      double[][] decoded = decode(views.get(i));
      close(download(outs[i]), ReferenceOps.linear(x, decoded, null), in, 0.4);
    }
  }

  @ParameterizedTest
  @EnumSource(names = {"MXFP4", "FP4", "Q4_1"})
  void projectsRowsOfQuantisedMatrices(DType dtype) {
    WeightMatrix odd = data.weights(dtype, 2 * 35, 96).rows(1, 2, 35);
    double[][] x = data.matrix(3, 96, 1);
    List<Vec> none = new ArrayList<>();
    none.add(null);
    Tensor y = backend.tensor(3, 35);
    ops.project(backend.projection(List.of(odd), none), upload(x), y);
    close(download(y), ReferenceOps.linear(x, decode(odd), null), 96, 0.4);
  }

  @Test
  void refusesWeightsThatAreNoNumbers() {
    List<Vec> none = new ArrayList<>();
    none.add(null);
    WeightMatrix beside = data.weights(DType.FP4, 3, 64);
    beside.scales().data().set(ValueLayout.JAVA_BYTE, 5, (byte) 255);
    WeightMatrix within = data.weights(DType.MXFP4, 3, 64);
    within.tensor().data().set(ValueLayout.JAVA_BYTE, 17 * 5, (byte) 255);
    for (WeightMatrix bad : List.of(beside, within)) {
      assertThatThrownBy(() -> backend.projection(List.of(bad), none))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessageContaining("test data: tensor w holds NaN");
    }
    within.tensor().data().set(ValueLayout.JAVA_BYTE, 17 * 3, (byte) 253);
    WeightMatrix large = within.rows(1, 1, 1);
    assertThatThrownBy(() -> backend.projection(List.of(large), none))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageContaining("test data: tensor w holds Infinity");
    Tensor row = backend.tensor(1, 64);
    // A backend may look at the whole table at once, or at each row when it is needed.
    assertThatThrownBy(() -> ops.embed(backend.embedding(within.tensor()), new int[] {2}, row))
        .isInstanceOf(InfiniLoraException.class)
        .hasMessageMatching("test data: tensor w holds (NaN|Infinity)");
    WeightMatrix half = data.weights(DType.F16, 3, 64);
    half.tensor().data().set(ValueLayout.JAVA_SHORT_UNALIGNED, 2 * 70, (short) 0x7C00);
    WeightMatrix single = data.weights(DType.F32, 3, 64);
    single.tensor().data().set(ValueLayout.JAVA_FLOAT_UNALIGNED, 4 * 70, Float.NaN);
    for (WeightMatrix bad : List.of(half, single)) {
      assertThatThrownBy(() -> backend.projection(List.of(bad), none))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessageMatching("test data: tensor w holds (NaN|Infinity)");
      assertThatThrownBy(() -> backend.vec(bad.tensor()))
          .isInstanceOf(InfiniLoraException.class)
          .hasMessageMatching("test data: tensor w holds (NaN|Infinity)");
    }
    WeightMatrix scales = WeightMatrix.of(beside.scales());
    assertThatThrownBy(() -> backend.projection(List.of(scales), none))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("U8");
  }

  @ParameterizedTest
  @MethodSource("weightTypes")
  void rowsDoNotDependOnTheBatchOrTheThreads(DType dtype) {
    int in = 768;
    int out = 100;
    double[][] x = data.matrix(19, in, 1);
    List<Vec> none = new ArrayList<>();
    none.add(null);
    Projection p = backend.projection(List.of(data.weights(dtype, out, in)), none);
    Tensor y = backend.tensor(19, out);
    ops.project(p, upload(x), y);
    float[][] all = download(y);
    try (OpStream single = backend.openStream("single", 1)) {
      for (int n = 1; n <= 19; n++) {
        double[][] last = Arrays.copyOfRange(x, 19 - n, 19);
        Tensor some = backend.tensor(n, out);
        single.project(p, upload(last), some);
        single.synchronize();
        float[][] rows = download(some);
        for (int r = 0; r < n; r++) {
          alike(rows[r], all[19 - n + r], "row %d of the last %d".formatted(r, n));
        }
      }
    }
  }

  @Test
  void embedsAnyType() {
    for (DType dtype : weightTypes()) {
      if (dtype == DType.FP4) {
        continue; // Its scales are another tensor, which an embedding has no place for.
      }
      TensorView table = data.tensor(dtype, 6, 512);
      Tensor out = backend.tensor(3, 512);
      ops.embed(backend.embedding(table), new int[] {5, 0, 5}, out);
      float[][] rows = download(out);
      assertThat(rows[0]).isEqualTo(rows[2]);
      double[][] all = decode(table);
      assertThat(doubles(rows)[1]).isEqualTo(all[0]);
      assertThat(doubles(rows)[0]).isEqualTo(all[5]);
    }
  }

  /** Sizes that are no multiples of 8, and few and many rows: each has kernels of its own. */
  @ParameterizedTest
  @ValueSource(ints = {1, 3, 40})
  void anEmbeddingIsAnOutputHead(int rows) {
    double[][] table = data.matrix(77, 36, 0.1);
    Embedding embedding = backend.embedding(TestData.f32(table));
    double[][] x = data.matrix(rows, 36, 1);
    Tensor logits = backend.wideTensor(rows, 77);
    ops.project(backend.projection(embedding), upload(x), logits);
    close(download(logits), ReferenceOps.linear(x, table, null), 36, 0.4);
    Tensor looked = backend.tensor(2, 36);
    ops.embed(embedding, new int[] {76, 3}, looked);
    assertThat(doubles(download(looked))).isDeepEqualTo(new double[][] {table[76], table[3]});
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 12, 24, 48, 100, 576})
  void normalises(int width) {
    double[][] x = data.matrix(5, width, 3);
    double[] weight = data.matrix(1, width, 1)[0];
    Tensor t = upload(x);
    ops.rmsNorm(t, vec(weight), 1e-5f, t);
    close(download(t), ReferenceOps.rmsNorm(x, weight, 1e-5), width, 1);

    double[][] heads = data.matrix(4, 3 * width, 2);
    Tensor h = upload(heads);
    ops.rmsNormHeads(h, vec(weight), 1e-6f);
    close(download(h), ReferenceOps.rmsNorm(heads, weight, 1e-6), width, 1);
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 12, 24, 48, 100, 576})
  void normalisesAroundTheMean(int width) {
    double[][] x = data.matrix(5, width, 3);
    for (double[] row : x) {
      for (int c = 0; c < width; c++) {
        row[c] = precision().rounded(row[c] + 20);
      }
    }
    double[] weight = data.matrix(1, width, 1)[0];
    Tensor t = upload(x);
    ops.layerNorm(t, vec(weight), 1e-5f, t);
    // The differences from a mean near 20 carry its rounding.
    close(download(t), ReferenceOps.layerNorm(x, weight, 1e-5), width, 20);
  }

  @Test
  void clamps() {
    double[][] x = data.matrix(3, 77, 4);
    x[0][3] = 2.5;
    x[1][76] = Double.NEGATIVE_INFINITY;
    Tensor t = upload(x);
    ops.clamp(t, 2.5f);
    float[][] bounded = download(t);
    for (int r = 0; r < 3; r++) {
      for (int c = 0; c < 77; c++) {
        assertThat(bounded[r][c]).isEqualTo((float) Math.clamp(x[r][c], -2.5, 2.5));
      }
    }
    assertThatThrownBy(() -> ops.clamp(t, -1))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("-1");
  }

  @ParameterizedTest
  @EnumSource
  void activates(Activation activation) {
    double[][] gate = data.matrix(3, 77, 4);
    double[][] up = data.matrix(3, 77, 4);
    gate[0][0] = 200;
    gate[0][1] = -200;
    gate[0][2] = 0;
    up[0][3] = 50;
    double[][] expected = new double[3][77];
    for (int r = 0; r < 3; r++) {
      for (int c = 0; c < 77; c++) {
        expected[r][c] = ReferenceOps.gated(activation, gate[r][c], up[r][c]);
      }
    }
    Tensor g = upload(gate);
    ops.gatedActivation(activation, g, upload(up), g);
    close(download(g), expected, 1, 1);
  }

  @Test
  void movesRows() {
    double[][] x = data.matrix(4, 21, 1);
    double[][] y = data.matrix(3, 21, 1);
    Tensor tx = upload(x);
    Tensor picked = backend.tensor(2, 21);
    ops.gather(tx, new int[] {3, 1}, picked);
    assertThat(doubles(download(picked))).isDeepEqualTo(new double[][] {x[3], x[1]});

    Tensor ty = upload(y);
    ops.scatterAdd(picked, new int[] {2, 0}, ty);
    float[][] sum = download(ty);
    for (int c = 0; c < 21; c++) {
      assertThat(sum[0][c]).isEqualTo((float) precision().rounded(y[0][c] + x[1][c]));
      assertThat(sum[1][c]).isEqualTo((float) y[1][c]);
      assertThat(sum[2][c]).isEqualTo((float) precision().rounded(y[2][c] + x[3][c]));
    }
    Tensor same = upload(y);
    ops.add(same, ty);
    assertThat(download(ty)[1][20]).isEqualTo((float) precision().rounded(y[1][20] + y[1][20]));
    ops.zero(ty.first(2));
    assertThat(download(ty)[1]).containsOnly(0f);
    assertThat(download(ty)[2]).isNotEqualTo(new float[21]);
  }

  /** What lies between a layer's projections. */
  private interface Attention {
    void run(BatchLayout batch, Tensor q, Tensor k, Tensor v, KvCache cache, Tensor out);
  }

  /** Keys and values of one sequence, written in chunks, then attended to in chunks. */
  private float[][] attend(
      double[][] q,
      double[][] k,
      double[][] v,
      KvLayout layout,
      AttentionParams params,
      RopeSpec rope,
      int... chunks) {
    RopeTable table = backend.ropeTable(rope, layout.headDim());
    return attend(
        q,
        k,
        v,
        layout,
        (batch, tq, tk, tv, cache, out) -> {
          ops.ropeAndStore(batch, table, tq, tk, tv, cache, 1);
          ops.attention(batch, tq, cache, 1, params, out);
        },
        chunks);
  }

  private float[][] attend(
      double[][] q,
      double[][] k,
      double[][] v,
      KvLayout layout,
      Attention attention,
      int... chunks) {
    KvCache cache = backend.kvCache(layout);
    int total = q.length;
    int[] blocks = new int[Math.ceilDiv(total, layout.blockSize())];
    // Not in order, so that position and place in the cache differ.
    Arrays.setAll(blocks, i -> layout.blocks() - 1 - i);
    float[][] out = new float[total][];
    int at = 0;
    int i = 0;
    while (at < total) {
      int n = Math.min(chunks[i % chunks.length], total - at);
      i++;
      int[] positions = new int[n];
      int start = at;
      Arrays.setAll(positions, r -> start + r);
      BatchLayout batch =
          new BatchLayout(
              new int[n], positions, new int[] {0, n}, new int[][] {blocks}, new int[0]);
      Tensor tq = upload(Arrays.copyOfRange(q, at, at + n));
      Tensor tk = upload(Arrays.copyOfRange(k, at, at + n));
      Tensor tv = upload(Arrays.copyOfRange(v, at, at + n));
      Tensor to = backend.tensor(n, q[0].length);
      attention.run(batch, tq, tk, tv, cache, to);
      System.arraycopy(download(to), 0, out, at, n);
      at += n;
    }
    return out;
  }

  @ParameterizedTest
  @CsvSource({
    "12, 4, 2, 16, 0, false",
    "24, 6, 2, 16, 0, true",
    "64, 9, 3, 16, 0, false",
    "64, 8, 1, 16, 20, false",
    "16, 4, 4, 5, 7, true",
    "80, 2, 1, 32, 1, false"
  })
  void attends(int headDim, int heads, int kvHeads, int blockSize, int window, boolean sinks) {
    int total = 83;
    double[][] q = data.matrix(total, heads * headDim, 1);
    double[][] k = data.matrix(total, kvHeads * headDim, 1);
    double[][] v = data.matrix(total, kvHeads * headDim, 1);
    double[] sink = data.matrix(1, heads, 1)[0];
    RopeSpec rope = RopeSpec.plain(10000);
    double scale = 1 / Math.sqrt(headDim);
    KvLayout layout = new KvLayout(2, 40, blockSize, kvHeads, headDim);
    AttentionParams params =
        new AttentionParams(
            heads, kvHeads, headDim, (float) scale, window, sinks ? vec(sink) : null);
    float[][] whole = attend(q, k, v, layout, params, rope, total);

    double[] frequencies = rope.inverseFrequencies(headDim);
    double[][] rotated = new double[total][];
    double[][] sizes = new double[total][];
    double[][] expected = new double[total][];
    double[][] magnitudes = new double[total][];
    for (int p = 0; p < total; p++) {
      rotated[p] = ReferenceOps.rotate(k[p], headDim, p, frequencies, 1);
      sizes[p] = Arrays.stream(v[p]).map(Math::abs).toArray();
    }
    for (int p = 0; p < total; p++) {
      double[] query = ReferenceOps.rotate(q[p], headDim, p, frequencies, 1);
      double[] extra = sinks ? sink : null;
      expected[p] =
          ReferenceOps.attention(query, rotated, v, p, heads, kvHeads, scale, window, extra);
      magnitudes[p] =
          ReferenceOps.attention(query, rotated, sizes, p, heads, kvHeads, scale, window, extra);
    }
    close(whole, expected, total, 2);

    attendedAlike(attend(q, k, v, layout, params, rope, 1), whole, magnitudes, "by ones");
    attendedAlike(attend(q, k, v, layout, params, rope, 7, 30), whole, magnitudes, "chunks");
  }

  /** The same rows, attended to in two ways; magnitudes as in {@link Precision#weighted}. */
  private void attendedAlike(
      float[][] actual, float[][] expected, double[][] magnitudes, String what) {
    for (int r = 0; r < expected.length; r++) {
      for (int c = 0; c < expected[r].length; c++) {
        double allowed = precision().weighted(expected[r][c], magnitudes[r][c]);
        if (!(Math.abs(actual[r][c] - expected[r][c]) <= allowed)) {
          assertThat(actual[r][c])
              .as("%s, row %d, column %d, tolerance %s", what, r, c, allowed)
              .isEqualTo(expected[r][c]);
        }
      }
    }
  }

  @ParameterizedTest
  @CsvSource({
    "64, 9, 3, 16, 0, false, 0, true",
    "128, 8, 1, 5, 30, true, 0.5, false",
    "32, 40, 2, 16, 0, true, 0.5, true",
    "256, 2, 2, 24, 0, false, 0, false",
    "24, 4, 2, 16, 3, true, 0.5, true"
  })
  void attendsInOne(
      int headDim,
      int heads,
      int kvHeads,
      int blockSize,
      int window,
      boolean sinks,
      float bound,
      boolean norms) {
    int total = 90;
    double[][] q = data.matrix(total, heads * headDim, 1);
    double[][] k = data.matrix(total, kvHeads * headDim, 1);
    double[][] v = data.matrix(total, kvHeads * headDim, 1);
    Vec qNorm = norms ? vec(data.matrix(1, headDim, 1)[0]) : null;
    Vec kNorm = norms ? vec(data.matrix(1, headDim, 1)[0]) : null;
    Vec sink = sinks ? vec(data.matrix(1, heads, 1)[0]) : null;
    RopeTable rope = backend.ropeTable(RopeSpec.plain(10000), headDim);
    AttentionPreparation preparation = new AttentionPreparation(rope, bound, qNorm, kNorm, 1e-6f);
    KvLayout layout = new KvLayout(2, 40, blockSize, kvHeads, headDim);
    AttentionParams params = new AttentionParams(heads, kvHeads, headDim, 0.2f, window, sink);
    Attention parts =
        (batch, tq, tk, tv, cache, out) -> {
          ops.prepareAttention(batch, preparation, tq, tk, tv, cache, 1);
          ops.attention(batch, tq, cache, 1, params, out);
        };
    Attention inOne =
        (batch, tq, tk, tv, cache, out) ->
            ops.attend(batch, preparation, tq, tk, tv, cache, 1, params, out);
    int[] chunks = {1, 1, 60, 1, 1, 1, 1, 7, 1, 1, 1};
    assertThat(attend(q, k, v, layout, inOne, chunks))
        .isDeepEqualTo(attend(q, k, v, layout, parts, chunks));
  }

  /** So many keys that a backend may share those of a row, and put the results together. */
  @ParameterizedTest
  @CsvSource({
    "64, 8, 4, 16, 1100, 0",
    "64, 20, 1, 5, 1500, 600",
    "128, 4, 1, 16, 700, 0",
    "128, 20, 1, 24, 260, 0",
    "256, 2, 1, 16, 330, 0",
    "32, 2, 1, 16, 4900, 0",
    "40, 2, 1, 16, 1100, 0"
  })
  void attendsInOneToManyKeys(
      int headDim, int heads, int kvHeads, int blockSize, int total, int window) {
    int known = total - 5; // Of which only keys and values are wanted.
    double[][] q = data.matrix(total, heads * headDim, 1);
    double[][] k = data.matrix(total, kvHeads * headDim, 1);
    double[][] v = data.matrix(total, kvHeads * headDim, 1);
    double[] sink = data.matrix(1, heads, 1)[0];
    RopeSpec spec = RopeSpec.plain(10000);
    RopeTable rope = backend.ropeTable(spec, headDim);
    KvLayout layout =
        new KvLayout(2, Math.ceilDiv(total, blockSize) + 1, blockSize, kvHeads, headDim);
    AttentionParams params = new AttentionParams(heads, kvHeads, headDim, 0.1f, window, vec(sink));
    Attention parts =
        (batch, tq, tk, tv, cache, out) -> {
          ops.prepareAttention(batch, AttentionPreparation.of(rope), tq, tk, tv, cache, 1);
          if (batch.isDecode()) {
            ops.attention(batch, tq, cache, 1, params, out);
          }
        };
    Attention inOne =
        (batch, tq, tk, tv, cache, out) -> {
          if (batch.isDecode()) {
            ops.attend(batch, AttentionPreparation.of(rope), tq, tk, tv, cache, 1, params, out);
          } else {
            ops.prepareAttention(batch, AttentionPreparation.of(rope), tq, tk, tv, cache, 1);
          }
        };
    int[] chunks = {known, 1, 1, 1, 1, 1};
    float[][] actual = attend(q, k, v, layout, inOne, chunks);
    assertThat(actual).isDeepEqualTo(attend(q, k, v, layout, parts, chunks));

    double[] frequencies = spec.inverseFrequencies(headDim);
    double[][] rotated = new double[total][];
    Arrays.setAll(rotated, p -> ReferenceOps.rotate(k[p], headDim, p, frequencies, 1));
    double[][] expected = new double[total - known][];
    for (int p = known; p < total; p++) {
      double[] query = ReferenceOps.rotate(q[p], headDim, p, frequencies, 1);
      expected[p - known] =
          ReferenceOps.attention(query, rotated, v, p, heads, kvHeads, 0.1f, window, sink);
    }
    // Results are small, since so many keys count: what a part of them gives would be missed.
    close(Arrays.copyOfRange(actual, known, total), expected, 25, 0.5);
  }

  @Test
  void sequencesOfABatchDoNotDisturbEachOther() {
    int headDim = 16;
    RopeSpec rope = RopeSpec.plain(10000);
    KvLayout layout = new KvLayout(2, 8, 4, 1, headDim);
    AttentionParams params = new AttentionParams(2, 1, headDim, 0.25f, 0, null);
    double[][] q = data.matrix(6, 2 * headDim, 1);
    double[][] k = data.matrix(6, headDim, 1);
    double[][] v = data.matrix(6, headDim, 1);
    float[][] first =
        attend(
            Arrays.copyOfRange(q, 0, 5),
            Arrays.copyOfRange(k, 0, 5),
            Arrays.copyOfRange(v, 0, 5),
            layout,
            params,
            rope,
            5);
    float[][] second =
        attend(
            Arrays.copyOfRange(q, 5, 6),
            Arrays.copyOfRange(k, 5, 6),
            Arrays.copyOfRange(v, 5, 6),
            layout,
            params,
            rope,
            1);

    KvCache cache = backend.kvCache(layout);
    BatchLayout batch =
        new BatchLayout(
            new int[6],
            new int[] {0, 1, 2, 3, 4, 0},
            new int[] {0, 5, 6},
            new int[][] {{2, 6}, {5}},
            new int[0]);
    Tensor tq = upload(q);
    ops.ropeAndStore(batch, backend.ropeTable(rope, headDim), tq, upload(k), upload(v), cache, 0);
    Tensor out = backend.tensor(6, 2 * headDim);
    ops.attention(batch, tq, cache, 0, params, out);
    float[][] rows = download(out);
    alike(Arrays.copyOf(rows, 5), first, "first");
    alike(rows[5], second[0], "second");
  }

  @Test
  void budgetsCountWhatCachesTake() {
    KvLayout odd = new KvLayout(2, 3, 16, 2, 24);
    KvCache cache = backend.kvCache(odd);
    assertThat(backend.kvBytes(odd)).isEqualTo(3 * cache.bytesPerBlock());
  }

  @Test
  void leftoversOfAFreedBlockAreNotRead() {
    KvLayout layout = new KvLayout(1, 1, 16, 1, 16);
    KvCache cache = backend.kvCache(layout);
    RopeTable table = backend.ropeTable(RopeSpec.plain(100), 16);
    double[][] poison = new double[16][16];
    for (double[] row : poison) {
      Arrays.fill(row, Double.NaN);
    }
    int[] positions = new int[16];
    Arrays.setAll(positions, i -> i);
    int[][] blocks = {{0}};
    ops.ropeAndStore(
        new BatchLayout(new int[16], positions, new int[] {0, 16}, blocks, new int[0]),
        table,
        upload(poison),
        upload(poison),
        upload(poison),
        cache,
        0);
    double[][] x = data.matrix(1, 16, 1);
    BatchLayout one =
        new BatchLayout(new int[1], new int[] {0}, new int[] {0, 1}, blocks, new int[0]);
    Tensor q = upload(x);
    ops.ropeAndStore(one, table, q, upload(x), upload(x), cache, 0);
    Tensor out = backend.tensor(1, 16);
    ops.attention(one, q, cache, 0, new AttentionParams(1, 1, 16, 1, 0, null), out);
    assertThat(doubles(download(out))).isDeepEqualTo(x);
  }

  @Test
  void zeroRowsDoNothing() {
    List<Vec> none = new ArrayList<>();
    none.add(null);
    Tensor empty = backend.tensor(4, 8).first(0);
    ops.rmsNorm(empty, vec(new double[8]), 1e-5f, empty);
    ops.project(
        backend.projection(List.of(WeightMatrix.of(data.tensor(DType.F32, 8, 8))), none),
        empty,
        backend.tensor(0, 8));
    ops.loraAdd(new RowGroups(new int[0], new int[] {0}), List.of(), empty, empty);
    ops.add(empty, empty);
    assertThat(ops.sample(backend.wideTensor(0, 8), List.of())).isEmpty();
  }

  @Test
  void wrongShapesAreRefusedAndChangeNothing() {
    Tensor a = upload(data.matrix(2, 8, 1));
    float[][] before = download(a);
    Tensor b = backend.tensor(2, 9);
    assertThatThrownBy(() -> ops.add(b, a))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("[2, 8]")
        .hasMessageContaining("[2, 9]");
    assertThatThrownBy(() -> ops.gather(a, new int[] {2}, b.first(1)))
        .isInstanceOf(IllegalArgumentException.class);
    assertThatThrownBy(() -> ops.gather(a, new int[] {2}, a.first(1)))
        .isInstanceOf(IllegalArgumentException.class)
        .hasMessageContaining("row 2 of 2");
    assertThatThrownBy(() -> a.first(3)).isInstanceOf(IndexOutOfBoundsException.class);
    assertThat(download(a)).isDeepEqualTo(before);
    try (Backend other = create()) {
      assertThatThrownBy(() -> ops.add(other.tensor(2, 8), a))
          .isInstanceOf(IllegalArgumentException.class)
          .hasMessageContaining("another backend");
    }
  }
}
