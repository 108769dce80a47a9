package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import java.util.Collection;
import java.util.EnumSet;
import java.util.Set;
import java.util.function.ToLongFunction;

/** How much memory a model's parameters take on a device that holds them in bf16. */
public final class ParameterMemory {
  private static final Set<Param> BIASES =
      EnumSet.of(
          Param.Q_BIAS,
          Param.K_BIAS,
          Param.V_BIAS,
          Param.O_BIAS,
          Param.ROUTER_BIAS,
          Param.GATE_BIAS,
          Param.UP_BIAS,
          Param.DOWN_BIAS);

  private ParameterMemory() {}

  /**
   * Bytes of all parameters: matrices in bf16, both sides rounded up to {@code multiple}, vectors
   * in float32. An output matrix that is tied to the embedding is the same memory; biases are held
   * once more, in the order of their matrix' rows.
   */
  public static long bytes(ModelSpec spec, int multiple) {
    return sum(spec, param -> bytes(spec, param, multiple));
  }

  /**
   * Bytes of those parameters that are vectors, each rounded up to {@code alignment} bytes; {@link
   * #bytes(ModelSpec, int)} counts them, too.
   */
  public static long vectorBytes(ModelSpec spec, int multiple, int alignment) {
    return sum(
        spec,
        param ->
            ParamShapes.shape(spec, param).length == 1
                ? Math.ceilDiv(bytes(spec, param, multiple), alignment) * alignment
                : 0);
  }

  /** The part of {@link #bytes(ModelSpec, int)} that is matrices. */
  public static long matrixBytes(ModelSpec spec, int multiple) {
    return sum(
        spec,
        param -> ParamShapes.shape(spec, param).length == 1 ? 0 : bytes(spec, param, multiple));
  }

  private static long sum(ModelSpec spec, ToLongFunction<Param> bytes) {
    long experts = spec.mlp().moe() == null ? 0 : spec.mlp().moe().experts();
    long layer =
        sum(ParamShapes.perLayer(spec), bytes) + experts * sum(ParamShapes.perExpert(spec), bytes);
    return sum(ParamShapes.global(spec), bytes) + spec.layers() * layer;
  }

  private static long sum(Collection<Param> params, ToLongFunction<Param> bytes) {
    return params.stream().mapToLong(bytes).sum();
  }

  private static long bytes(ModelSpec spec, Param param, int multiple) {
    long[] shape = ParamShapes.shape(spec, param);
    long cols = Math.ceilDiv(shape[shape.length - 1], multiple) * multiple;
    return shape.length == 1
        ? (BIASES.contains(param) ? 2 : 1) * Float.BYTES * cols
        : Short.BYTES * cols * (Math.ceilDiv(shape[0], multiple) * multiple);
  }
}
