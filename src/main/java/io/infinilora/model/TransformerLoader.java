package io.infinilora.model;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.Backend;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Vec;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Param;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Builds a {@link Transformer} from a checkpoint: packs every weight for the device. */
public final class TransformerLoader {
  private final Checkpoint checkpoint;
  private final Backend backend;
  private final ModelSpec spec;

  private TransformerLoader(Checkpoint checkpoint, Backend backend) {
    this.checkpoint = checkpoint;
    this.backend = backend;
    this.spec = checkpoint.spec();
  }

  /**
   * Loads all weights. The checkpoint must stay open as long as the transformer is used: embeddings
   * may be read from it.
   *
   * @throws InfiniLoraException BAD_MODEL_FILE if a parameter is missing, misshapen or of an
   *     unsupported kind
   */
  public static Transformer load(Checkpoint checkpoint, Backend backend) {
    return new TransformerLoader(checkpoint, backend).load();
  }

  private Transformer load() {
    if (spec.mlp().moe() != null
        || spec.norm() != ModelSpec.Norm.RMS
        || spec.attention().clipQkv() != 0) {
      throw new InfiniLoraException(
          ErrorCode.UNSUPPORTED_MODEL,
          "architecture %s is not supported".formatted(spec.architecture()));
    }
    RopeTable rope = backend.ropeTable(spec.rope(), spec.attention().headDim());
    List<Transformer.Layer> layers = new ArrayList<>();
    for (int i = 0; i < spec.layers(); i++) {
      layers.add(layer(i));
    }
    return new Transformer(
        spec,
        backend.embedding(checkpoint.matrix(Param.EMBEDDING, 0).tensor()),
        rope,
        layers,
        vec(Param.FINAL_NORM, 0),
        projection(0, Param.LM_HEAD));
  }

  private Transformer.Layer layer(int i) {
    ModelSpec.Attention a = spec.attention();
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
    AttentionParams attention =
        new AttentionParams(
            a.heads(), a.kvHeads(), a.headDim(), a.scale(), a.windows().get(i), null);
    return new Transformer.Layer(
        vec(Param.ATTENTION_NORM, i),
        qkv,
        a.qkNorm() ? vec(Param.Q_NORM, i) : null,
        a.qkNorm() ? vec(Param.K_NORM, i) : null,
        attention,
        output,
        vec(Param.MLP_NORM, i),
        new DenseMlp(
            projection(i, Param.GATE, Param.UP),
            projection(i, Param.DOWN),
            spec.mlp().activation()));
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
