package io.infinilora.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.offset;

import io.infinilora.backend.Backend;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.NormParams;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Router;
import io.infinilora.backend.Routing;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.backend.cpu.CpuBackend;
import io.infinilora.backend.reference.TestData;
import io.infinilora.core.Activation;
import io.infinilora.core.DType;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.WeightMatrix;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** A block of experts is the same whether or not its sites are looked at. */
class MoeMlpTest {
  private static final int ROWS = 5;
  private static final int HIDDEN = 24;
  private static final int INNER = 20;
  private static final ModelSpec.Moe MOE = new ModelSpec.Moe(4, 2, true, true, false, false);

  private final TestData data = new TestData(7);
  private Backend backend;
  private OpStream ops;
  private MoeMlp mlp;
  private NormParams norm;
  private NormParams next;
  private double[][] before;
  private double[][] added;

  /** Notes sites, and adds 1 to what comes out of those that it reads. */
  private class Port implements LoraPort {
    private final Set<LoraSite> read;
    private final List<String> events = new ArrayList<>();

    Port(Set<LoraSite> read) {
      this.read = read;
    }

    @Override
    public boolean reads(int layer, LoraSite site) {
      return read.contains(site);
    }

    @Override
    public void publish(int layer, LoraSite site, Tensor x) {
      throw new AssertionError(site);
    }

    @Override
    public void join(int layer, LoraSite site, Tensor x, Tensor... outs) {
      throw new AssertionError(site);
    }

    @Override
    public void publishRouted(int layer, LoraSite site, Tensor x, Routing routing) {
      events.add("publish " + site + " " + x.rows() + " x " + x.cols());
    }

    @Override
    public void joinRouted(int layer, LoraSite site, Tensor x, Routing routing, Tensor... outs) {
      events.add("join " + site + " " + outs.length);
      for (Tensor out : outs) {
        if (read.contains(site)) {
          double[][] ones = new double[out.rows()][out.cols()];
          Arrays.stream(ones).forEach(row -> Arrays.fill(row, 1));
          ops.add(upload(ones), out);
        }
      }
    }
  }

  @BeforeEach
  void open() {
    backend = new CpuBackend(false);
    ops = backend.openStream("test", 1);
    mlp =
        new MoeMlp(
            new Router(
                backend.projection(
                    List.of(data.weights(DType.F32, MOE.experts(), HIDDEN)),
                    Collections.singletonList(null)),
                MOE),
            experts(HIDDEN, INNER, INNER),
            experts(INNER, HIDDEN),
            Activation.SWIGLU);
    norm = norm();
    next = norm();
    before = data.matrix(ROWS, HIDDEN, 1);
    added = data.matrix(ROWS, HIDDEN, 1);
  }

  @AfterEach
  void close() {
    ops.close();
    backend.close();
  }

  private NormParams norm() {
    Vec weight = backend.vec(TestData.f32(data.matrix(1, HIDDEN, 1)));
    return new NormParams(ModelSpec.Norm.RMS, weight, 1e-5f);
  }

  private ExpertProjection experts(int in, int... outs) {
    List<List<WeightMatrix>> matrices = new ArrayList<>();
    for (int e = 0; e < MOE.experts(); e++) {
      matrices.add(Arrays.stream(outs).mapToObj(o -> data.weights(DType.F32, o, in)).toList());
    }
    return backend.expertProjection(
        matrices,
        Collections.nCopies(
            MOE.experts(), new ArrayList<>(Collections.nCopies(outs.length, null))));
  }

  private Tensor upload(double[][] values) {
    Tensor tensor = backend.tensor(values.length, values[0].length);
    int[] all = IntStream.range(0, values.length).toArray();
    ops.embed(backend.embedding(TestData.f32(values)), all, tensor);
    return tensor;
  }

  private List<float[]> download(Tensor tensor) {
    List<float[]> rows = new ArrayList<>();
    for (int r = 0; r < tensor.rows(); r++) {
      rows.add(new float[tensor.cols()]);
      ops.read(tensor, r, rows.getLast());
    }
    return rows;
  }

  private ResidualStream run(LoraPort port, NormParams following) {
    Workspace workspace =
        new Workspace(
            upload(before),
            backend.tensor(ROWS, HIDDEN),
            upload(added),
            null,
            null,
            null,
            null,
            backend.tensor(ROWS * MOE.topK(), INNER),
            backend.tensor(ROWS * MOE.topK(), INNER),
            backend.wideTensor(ROWS, MOE.experts()),
            backend.routing(ROWS, MOE.topK(), MOE.experts()),
            null,
            null,
            null);
    ResidualStream stream =
        new ResidualStream(workspace.residual(), workspace.normed(), workspace.blockOut());
    mlp.forward(3, stream, norm, following, workspace, port, ops);
    return stream;
  }

  private static void same(List<float[]> actual, List<float[]> expected) {
    assertThat(actual.toArray(float[][]::new)).isDeepEqualTo(expected.toArray(float[][]::new));
  }

  @ParameterizedTest
  @CsvSource({"true", "false"})
  void sitesThatNobodyReadsMayBeLeftOut(boolean last) {
    NormParams following = last ? null : next;
    Port inOnly = new Port(EnumSet.of(LoraSite.MLP_IN));
    ResidualStream expected = run(inOnly, following);
    // Reads both, but adds nothing at the second.
    Port both =
        new Port(EnumSet.of(LoraSite.MLP_IN)) {
          @Override
          public boolean reads(int layer, LoraSite site) {
            return true;
          }
        };
    ResidualStream whole = run(both, following);
    same(download(whole.residual()), download(expected.residual()));
    if (!last) {
      same(download(whole.normed()), download(expected.normed()));
    }
    String in = "publish MLP_IN 5 x 24";
    assertThat(inOnly.events).containsExactly(in, "join MLP_IN 2");
    assertThat(both.events)
        .containsExactly(in, "join MLP_IN 2", "publish MLP_OUT 10 x 20", "join MLP_OUT 1");
  }

  @ParameterizedTest
  @CsvSource({"true", "false"})
  void whatIsAddedAtTheSecondSiteReachesTheResidualStream(boolean last) {
    NormParams following = last ? null : next;
    List<float[]> without = download(run(LoraPort.NONE, following).residual());
    List<float[]> with =
        download(run(new Port(EnumSet.of(LoraSite.MLP_OUT)), following).residual());
    for (int r = 0; r < ROWS; r++) {
      for (int c = 0; c < HIDDEN; c++) {
        assertThat(with.get(r)[c] - without.get(r)[c]).isCloseTo(1, offset(1e-5f));
      }
    }
  }
}
