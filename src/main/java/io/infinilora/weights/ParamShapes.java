package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import java.util.ArrayList;
import java.util.List;

/** Which parameters a model has, and how large they are. */
final class ParamShapes {

  /** What every expert has, or the layer itself where there are none. */
  private static final List<Param> EXPERT_WEIGHTS = List.of(Param.GATE, Param.UP, Param.DOWN);

  private static final List<Param> EXPERT_BIASES =
      List.of(Param.GATE_BIAS, Param.UP_BIAS, Param.DOWN_BIAS);

  private ParamShapes() {}

  /** The parameters outside the layers. */
  static List<Param> global(ModelSpec spec) {
    return spec.tiedEmbeddings()
        ? List.of(Param.EMBEDDING, Param.FINAL_NORM)
        : List.of(Param.EMBEDDING, Param.FINAL_NORM, Param.LM_HEAD);
  }

  /** The parameters that every layer has once. */
  static List<Param> perLayer(ModelSpec spec) {
    List<Param> params =
        new ArrayList<>(
            List.of(Param.ATTENTION_NORM, Param.Q, Param.K, Param.V, Param.O, Param.MLP_NORM));
    if (spec.attention().qkvBias()) {
      params.addAll(List.of(Param.Q_BIAS, Param.K_BIAS, Param.V_BIAS));
    }
    if (spec.attention().outBias()) {
      params.add(Param.O_BIAS);
    }
    if (spec.attention().qkNorm()) {
      params.addAll(List.of(Param.Q_NORM, Param.K_NORM));
    }
    if (spec.attention().sinks()) {
      params.add(Param.SINKS);
    }
    ModelSpec.Moe moe = spec.mlp().moe();
    if (moe == null) {
      params.addAll(EXPERT_WEIGHTS);
    } else {
      params.add(Param.ROUTER);
      if (moe.routerBias()) {
        params.add(Param.ROUTER_BIAS);
      }
    }
    return params;
  }

  /** The parameters that every layer has for every expert. */
  static List<Param> perExpert(ModelSpec spec) {
    ModelSpec.Moe moe = spec.mlp().moe();
    if (moe == null) {
      return List.of();
    }
    List<Param> params = new ArrayList<>(EXPERT_WEIGHTS);
    if (moe.expertBias()) {
      params.addAll(EXPERT_BIASES);
    }
    return params;
  }

  /** Whether a parameter belongs to an expert. */
  static boolean ofExpert(ModelSpec spec, Param param) {
    return spec.mlp().moe() != null
        && (EXPERT_WEIGHTS.contains(param) || EXPERT_BIASES.contains(param));
  }

  /** The shape of a parameter, outermost size first: {@code [out, in]} or {@code [size]}. */
  static long[] shape(ModelSpec spec, Param param) {
    long hidden = spec.hidden();
    long q = spec.attention().qWidth();
    long kv = spec.attention().kvWidth();
    long inner = spec.mlp().intermediate();
    return switch (param) {
      case EMBEDDING, LM_HEAD -> new long[] {spec.vocab(), hidden};
      case FINAL_NORM, ATTENTION_NORM, MLP_NORM, O_BIAS, DOWN_BIAS -> new long[] {hidden};
      case Q -> new long[] {q, hidden};
      case K, V -> new long[] {kv, hidden};
      case O -> new long[] {hidden, q};
      case Q_BIAS -> new long[] {q};
      case K_BIAS, V_BIAS -> new long[] {kv};
      case Q_NORM, K_NORM -> new long[] {spec.attention().headDim()};
      case SINKS -> new long[] {spec.attention().heads()};
      case ROUTER -> new long[] {spec.mlp().moe().experts(), hidden};
      case ROUTER_BIAS -> new long[] {spec.mlp().moe().experts()};
      case GATE, UP -> new long[] {inner, hidden};
      case DOWN -> new long[] {hidden, inner};
      case GATE_BIAS, UP_BIAS -> new long[] {inner};
    };
  }
}
