package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import java.util.ArrayList;
import java.util.List;

/** Which parameters a model has, and how large they are. */
final class ParamShapes {

  private ParamShapes() {}

  /** The parameters outside the layers. */
  static List<Param> global(ModelSpec spec) {
    return spec.tiedEmbeddings()
        ? List.of(Param.EMBEDDING, Param.FINAL_NORM)
        : List.of(Param.EMBEDDING, Param.FINAL_NORM, Param.LM_HEAD);
  }

  /** The parameters of every layer. */
  static List<Param> perLayer(ModelSpec spec) {
    List<Param> params =
        new ArrayList<>(
            List.of(Param.ATTENTION_NORM, Param.Q, Param.K, Param.V, Param.O, Param.MLP_NORM));
    params.addAll(List.of(Param.GATE, Param.UP, Param.DOWN));
    if (spec.attention().qkvBias()) {
      params.addAll(List.of(Param.Q_BIAS, Param.K_BIAS, Param.V_BIAS));
    }
    if (spec.attention().outBias()) {
      params.add(Param.O_BIAS);
    }
    if (spec.attention().qkNorm()) {
      params.addAll(List.of(Param.Q_NORM, Param.K_NORM));
    }
    return params;
  }

  /** The shape of a parameter, outermost size first: {@code [out, in]} or {@code [size]}. */
  static long[] shape(ModelSpec spec, Param param) {
    long hidden = spec.hidden();
    long q = spec.attention().qWidth();
    long kv = spec.attention().kvWidth();
    long inner = spec.mlp().intermediate();
    return switch (param) {
      case EMBEDDING, LM_HEAD -> new long[] {spec.vocab(), hidden};
      case FINAL_NORM, ATTENTION_NORM, MLP_NORM, O_BIAS -> new long[] {hidden};
      case Q -> new long[] {q, hidden};
      case K, V -> new long[] {kv, hidden};
      case O -> new long[] {hidden, q};
      case Q_BIAS -> new long[] {q};
      case K_BIAS, V_BIAS -> new long[] {kv};
      case Q_NORM, K_NORM -> new long[] {spec.attention().headDim()};
      case GATE, UP -> new long[] {inner, hidden};
      case DOWN -> new long[] {hidden, inner};
      default -> throw new IllegalArgumentException(param.toString());
    };
  }
}
