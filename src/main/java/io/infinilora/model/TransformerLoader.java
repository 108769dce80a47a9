package io.infinilora.model;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.Backend;
import io.infinilora.backend.Embedding;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.NormParams;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Router;
import io.infinilora.backend.Vec;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.WeightMatrix;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Param;
import io.infinilora.weights.ParameterMemory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Builds a {@link Transformer} from a checkpoint: packs every weight for the device, several layers
 * at a time.
 */
public final class TransformerLoader {
  /** Threads that pack; more of them wait for the disk or for memory. */
  private static final int MAX_THREADS = 8;

  /** Of the sizes of what devices hold. */
  private static final int MULTIPLE = 8;

  /** Bytes; of the place where a matrix begins. */
  private static final int ALIGNMENT = 256;

  private final Checkpoint checkpoint;
  private final Backend backend;
  private final LoadListener listener;
  private final ModelSpec spec;

  private TransformerLoader(Checkpoint checkpoint, Backend backend, LoadListener listener) {
    this.checkpoint = checkpoint;
    this.backend = backend;
    this.listener = listener;
    this.spec = checkpoint.spec();
  }

  /**
   * Loads all weights. The checkpoint must stay open as long as the transformer is used: embeddings
   * may be read from it.
   *
   * @throws InfiniLoraException BAD_MODEL_FILE if a parameter is missing, misshapen or of an
   *     unsupported kind: the first layer's fault if there are several
   */
  public static Transformer load(Checkpoint checkpoint, Backend backend) {
    return load(checkpoint, backend, LoadListener.NONE);
  }

  /** The same, telling how it goes. */
  public static Transformer load(Checkpoint checkpoint, Backend backend, LoadListener listener) {
    return new TransformerLoader(checkpoint, backend, listener).load();
  }

  private Transformer load() {
    int threads = Math.min(MAX_THREADS, Runtime.getRuntime().availableProcessors());
    ExecutorService packers =
        Executors.newFixedThreadPool(threads, Thread.ofPlatform().name("packer-", 0).factory());
    try {
      return load(packers);
    } catch (ExecutionException e) {
      if (e.getCause() instanceof InfiniLoraException fault) {
        throw fault;
      }
      if (e.getCause() instanceof InternalError) {
        // Compiled code may tell of it after it has left the tensor.
        throw new InfiniLoraException(
            ErrorCode.BAD_MODEL_FILE,
            checkpoint.describe() + ": cannot be read where it is mapped",
            e.getCause());
      }
      throw new IllegalStateException(e.getCause());
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IllegalStateException("interrupted while packing weights", e);
    } finally {
      // Layers that are being packed are waited for: their memory is the backend's.
      packers.shutdownNow();
      packers.close();
    }
  }

  private Transformer load(ExecutorService packers)
      throws ExecutionException, InterruptedException {
    backend.expectWeights(ParameterMemory.matrixBytes(spec, MULTIPLE, ALIGNMENT));
    // First, since it keeps a device busy while the first layers find out what they need.
    Future<Embedding> table =
        packers.submit(() -> backend.embedding(checkpoint.matrix(Param.EMBEDDING, 0).tensor()));
    List<Future<Transformer.Layer>> packed = new ArrayList<>();
    for (int i = 0; i < spec.layers(); i++) {
      int layer = i;
      packed.add(packers.submit(() -> layer(layer)));
    }
    // While the last layers are packed, which leave threads idle.
    Future<Projection> own =
        spec.tiedEmbeddings() ? null : packers.submit(() -> projection(0, Param.LM_HEAD));
    RopeTable rope = backend.ropeTable(spec.rope(), spec.attention().headDim());
    List<Transformer.Layer> layers = new ArrayList<>();
    for (Future<Transformer.Layer> layer : packed) {
      layers.add(layer.get());
      listener.loaded(layers.size(), spec.layers());
    }
    Embedding embedding = table.get();
    Projection head = own == null ? backend.projection(embedding) : own.get();
    return new Transformer(spec, embedding, rope, layers, norm(Param.FINAL_NORM, 0), head);
  }

  private Transformer.Layer layer(int i) {
    ModelSpec.Attention a = spec.attention();
    NormParams attentionNorm = norm(Param.ATTENTION_NORM, i);
    NormParams mlpNorm = norm(Param.MLP_NORM, i);
    Projection qkv =
        a.qkvBias()
            ? projection(
                i,
                List.of(Param.Q, Param.K, Param.V),
                List.of(Param.Q_BIAS, Param.K_BIAS, Param.V_BIAS))
            : projection(i, Param.Q, Param.K, Param.V);
    Projection output =
        a.outBias()
            ? projection(i, List.of(Param.O), List.of(Param.O_BIAS))
            : projection(i, Param.O);
    Vec sinks = a.sinks() ? vec(Param.SINKS, i) : null;
    AttentionParams attention =
        new AttentionParams(
            a.heads(), a.kvHeads(), a.headDim(), a.scale(), a.windows().get(i), sinks);
    return new Transformer.Layer(
        attentionNorm,
        qkv,
        a.qkNorm() ? vec(Param.Q_NORM, i) : null,
        a.qkNorm() ? vec(Param.K_NORM, i) : null,
        attention,
        output,
        mlpNorm,
        spec.mlp().moe() == null ? dense(i) : moe(i, spec.mlp().moe()));
  }

  private NormParams norm(Param weight, int layer) {
    return new NormParams(spec.norm(), vec(weight, layer), (float) spec.normEps());
  }

  private MlpBlock dense(int layer) {
    return new DenseMlp(
        projection(layer, Param.GATE, Param.UP),
        projection(layer, Param.DOWN),
        spec.mlp().activation());
  }

  private MlpBlock moe(int layer, ModelSpec.Moe moe) {
    Projection router =
        moe.routerBias()
            ? projection(layer, List.of(Param.ROUTER), List.of(Param.ROUTER_BIAS))
            : projection(layer, Param.ROUTER);
    return new MoeMlp(
        new Router(router, moe),
        experts(layer, List.of(Param.GATE, Param.UP), List.of(Param.GATE_BIAS, Param.UP_BIAS)),
        experts(layer, List.of(Param.DOWN), List.of(Param.DOWN_BIAS)),
        spec.mlp().activation());
  }

  /** The experts of layers that share their input. */
  private ExpertProjection experts(int layer, List<Param> params, List<Param> biases) {
    ModelSpec.Moe moe = spec.mlp().moe();
    List<List<WeightMatrix>> weights = new ArrayList<>(moe.experts());
    List<List<Vec>> offsets = new ArrayList<>(moe.experts());
    for (int e = 0; e < moe.experts(); e++) {
      int expert = e;
      weights.add(params.stream().map(p -> checkpoint.matrix(p, layer, expert)).toList());
      offsets.add(
          moe.expertBias()
              ? biases.stream().map(b -> backend.vec(checkpoint.vector(b, layer, expert))).toList()
              : Arrays.asList(new Vec[params.size()]));
    }
    return backend.expertProjection(weights, offsets);
  }

  private Vec vec(Param param, int layer) {
    return backend.vec(checkpoint.vector(param, layer));
  }

  private Projection projection(int layer, Param... params) {
    return backend.projection(
        Arrays.stream(params).map(p -> checkpoint.matrix(p, layer)).toList(),
        Arrays.asList(new Vec[params.length]));
  }

  private Projection projection(int layer, List<Param> params, List<Param> biases) {
    return backend.projection(
        params.stream().map(p -> checkpoint.matrix(p, layer)).toList(),
        biases.stream().map(b -> vec(b, layer)).toList());
  }
}
