package io.infinilora.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;

import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.NormParams;
import io.infinilora.backend.Precision;
import io.infinilora.backend.Projection;
import io.infinilora.backend.Router;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.Activation;
import io.infinilora.core.DType;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.WeightMatrix;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;

/** Layers of experts with their norms: recorded, padded steps equal launches of their own. */
class RecordedNormTest extends OnGpu {
  private static final int EXPERTS = 24;
  private static final int TOP_K = 4;
  private static final int HIDDEN = 1044;
  private static final int INNER = 72;
  private static final int LAYERS = 3;
  private static final int CAPACITY = 40;

  private final TestData data = new TestData(5, Precision.BF16);

  /** What a layer needs, and the norm of what comes after it. */
  private record Layer(
      Vec norm, Projection router, ExpertProjection up, ExpertProjection down, Vec next) {}

  private Vec vec(int size) {
    return backend.vec(TestData.f32(data.matrix(1, size, 1)));
  }

  private ExpertProjection experts(int in, int out) {
    List<List<WeightMatrix>> matrices = new ArrayList<>();
    for (int e = 0; e < EXPERTS; e++) {
      matrices.add(List.of(data.weights(DType.BF16, out, in)));
    }
    return backend.expertProjection(
        matrices, Collections.nCopies(EXPERTS, Collections.singletonList(null)));
  }

  private Layer layer() {
    Projection router =
        backend.projection(
            List.of(data.weights(DType.BF16, EXPERTS, HIDDEN)), List.of(vec(EXPERTS)));
    return new Layer(
        vec(HIDDEN), router, experts(HIDDEN, INNER), experts(INNER, HIDDEN), vec(HIDDEN));
  }

  private static NormParams rms(Vec weight) {
    return new NormParams(ModelSpec.Norm.RMS, weight, 1e-5f);
  }

  private static BatchLayout decode(int rows) {
    int[] numbers = IntStream.range(0, rows).toArray();
    int[][] tables = new int[rows][];
    Arrays.setAll(tables, i -> new int[] {i});
    return new BatchLayout(
        numbers, new int[rows], IntStream.rangeClosed(0, rows).toArray(), tables, numbers);
  }

  @Test
  void recordedStepsEqualDirectLaunches() {
    List<Layer> layers = IntStream.range(0, LAYERS).mapToObj(i -> layer()).toList();
    ModelSpec.Moe moe = new ModelSpec.Moe(EXPERTS, TOP_K, true, true, false, false);
    Tensor residual = backend.wideTensor(CAPACITY, HIDDEN);
    Tensor normed = backend.tensor(CAPACITY, HIDDEN);
    Tensor blockOut = backend.tensor(CAPACITY, HIDDEN);
    Tensor mid = backend.tensor(CAPACITY * TOP_K, INNER);
    Tensor logits = backend.wideTensor(CAPACITY, EXPERTS);
    Routing routing = backend.routing(CAPACITY, TOP_K, EXPERTS);
    double[][] first = data.matrix(CAPACITY, HIDDEN, 2);
    for (int step = 0; step < 40; step++) {
      int rows = new int[] {1, 3, 9, 11, 17, 33, 39}[step % 7];
      double[][] x = data.matrix(CAPACITY, HIDDEN, 1);
      Tensor out = blockOut.first(rows);
      Tensor stream = residual.first(rows);
      Tensor input = normed.first(rows);
      Routing chosen = routing.first(rows);
      Tensor inner = mid.first(rows * TOP_K);
      Runnable operators =
          () -> {
            for (Layer l : layers) {
              ops.addNormRoute(
                  out,
                  stream,
                  rms(l.norm()),
                  input,
                  new Router(l.router(), moe),
                  logits.first(rows),
                  chosen);
              ops.expertProject(l.up(), chosen, input, inner);
              ops.expertCombineAddNorm(
                  Activation.SWIGLU,
                  inner,
                  inner,
                  l.down(),
                  chosen,
                  out,
                  stream,
                  rms(l.next()),
                  input);
              ops.expertCombine(l.down(), chosen, inner, out);
            }
          };
      write(first, residual);
      write(x, blockOut);
      operators.run();
      float[][] expectedSum = download(stream);
      float[][] expectedNorm = download(input);
      write(first, residual);
      write(x, blockOut);
      ops.step(decode(rows), true, operators);
      assertThat(download(stream)).as("step %d, sum", step).isDeepEqualTo(expectedSum);
      assertThat(download(input)).as("step %d, norm", step).isDeepEqualTo(expectedNorm);
    }
    ops.synchronize();
  }
}
