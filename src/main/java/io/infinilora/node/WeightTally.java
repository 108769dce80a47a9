package io.infinilora.node;

import io.infinilora.core.DType;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import io.infinilora.weights.Checkpoint;
import io.infinilora.weights.Param;
import java.util.Map;
import java.util.TreeMap;

/** Counts the parameters of a model and the bytes that they take in its files. */
final class WeightTally {

  private final Checkpoint checkpoint;
  private final ModelSpec spec;
  private final Map<String, Long> bytesByType = new TreeMap<>();
  private long parameters;
  private long expertParameters;

  WeightTally(Checkpoint checkpoint) {
    this.checkpoint = checkpoint;
    this.spec = checkpoint.spec();
  }

  /** Adds embedding, final norm and, where it is not the embedding, the output head. */
  void addOutsideLayers() {
    matrix(Param.EMBEDDING, 0);
    vector(Param.FINAL_NORM, 0);
    if (!spec.tiedEmbeddings()) {
      matrix(Param.LM_HEAD, 0);
    }
  }

  /** Adds a layer. */
  void addLayer(int layer) {
    vector(Param.ATTENTION_NORM, layer);
    matrix(Param.Q, layer);
    matrix(Param.K, layer);
    matrix(Param.V, layer);
    matrix(Param.O, layer);
    vector(Param.MLP_NORM, layer);
    ModelSpec.Attention attention = spec.attention();
    if (attention.qkvBias()) {
      vector(Param.Q_BIAS, layer);
      vector(Param.K_BIAS, layer);
      vector(Param.V_BIAS, layer);
    }
    if (attention.outBias()) {
      vector(Param.O_BIAS, layer);
    }
    if (attention.qkNorm()) {
      vector(Param.Q_NORM, layer);
      vector(Param.K_NORM, layer);
    }
    if (attention.sinks()) {
      vector(Param.SINKS, layer);
    }
    if (spec.mlp().moe() == null) {
      matrix(Param.GATE, layer);
      matrix(Param.UP, layer);
      matrix(Param.DOWN, layer);
    } else {
      addExperts(layer, spec.mlp().moe());
    }
  }

  private void addExperts(int layer, ModelSpec.Moe moe) {
    matrix(Param.ROUTER, layer);
    if (moe.routerBias()) {
      vector(Param.ROUTER_BIAS, layer);
    }
    long before = parameters;
    for (int expert = 0; expert < moe.experts(); expert++) {
      add(checkpoint.matrix(Param.GATE, layer, expert));
      add(checkpoint.matrix(Param.UP, layer, expert));
      add(checkpoint.matrix(Param.DOWN, layer, expert));
      if (moe.expertBias()) {
        add(checkpoint.vector(Param.GATE_BIAS, layer, expert));
        add(checkpoint.vector(Param.UP_BIAS, layer, expert));
        add(checkpoint.vector(Param.DOWN_BIAS, layer, expert));
      }
    }
    expertParameters += parameters - before;
  }

  private void matrix(Param param, int layer) {
    add(checkpoint.matrix(param, layer));
  }

  private void vector(Param param, int layer) {
    add(checkpoint.vector(param, layer));
  }

  private void add(WeightMatrix matrix) {
    long elements = (long) matrix.rows() * matrix.cols();
    add(matrix.dtype(), elements);
    if (matrix.scales() != null) {
      DType scales = matrix.scales().dtype();
      long bytes = scales.bytes(elements / matrix.dtype().blockElements());
      bytesByType.merge(matrix.dtype().name(), bytes, Long::sum);
    }
  }

  private void add(TensorView vector) {
    add(vector.dtype(), vector.elements());
  }

  private void add(DType type, long elements) {
    parameters += elements;
    bytesByType.merge(type.name(), type.bytes(elements), Long::sum);
  }

  /** Bytes so far. */
  long bytes() {
    return bytesByType.values().stream().mapToLong(Long::longValue).sum();
  }

  /** Bytes by the name of their element type. */
  Map<String, Long> bytesByType() {
    return bytesByType;
  }

  /** All parameters. */
  long parameters() {
    return parameters;
  }

  /** All but those of the experts that a token is not sent to. */
  long activeParameters() {
    ModelSpec.Moe moe = spec.mlp().moe();
    return moe == null
        ? parameters
        : parameters - expertParameters / moe.experts() * (moe.experts() - moe.topK());
  }
}
