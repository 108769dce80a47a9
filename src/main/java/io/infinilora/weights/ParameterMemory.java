package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import java.util.Collection;
import java.util.EnumSet;
import java.util.Set;

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
    long experts = spec.mlp().moe() == null ? 0 : spec.mlp().moe().experts();
    long layer =
        bytes(spec, ParamShapes.perLayer(spec), multiple)
            + experts * bytes(spec, ParamShapes.perExpert(spec), multiple);
    return bytes(spec, ParamShapes.global(spec), multiple) + spec.layers() * layer;
  }

  /**
   * Bytes of those parameters that are vectors, each rounded up to {@code alignment} bytes; {@link
   * #bytes} counts them, too, and biases once more.
   */
  public static long vectorBytes(ModelSpec spec, int multiple, int alignment) {
    return bytes(spec, 1, multiple, alignment);
  }

  /** Likewise of those that are matrices. */
  public static long matrixBytes(ModelSpec spec, int multiple, int alignment) {
    return bytes(spec, 2, multiple, alignment);
  }

  private static long bytes(ModelSpec spec, int dimensions, int multiple, int alignment) {
    long experts = spec.mlp().moe() == null ? 0 : spec.mlp().moe().experts();
    return bytes(spec, ParamShapes.global(spec), dimensions, multiple, alignment)
        + spec.layers()
            * (bytes(spec, ParamShapes.perLayer(spec), dimensions, multiple, alignment)
                + experts
                    * bytes(spec, ParamShapes.perExpert(spec), dimensions, multiple, alignment));
  }

  private static long bytes(
      ModelSpec spec, Collection<Param> params, int dimensions, int multiple, int alignment) {
    return params.stream()
        .filter(param -> ParamShapes.shape(spec, param).length == dimensions)
        .mapToLong(param -> Math.ceilDiv(once(spec, param, multiple), alignment) * alignment)
        .sum();
  }

  private static long bytes(ModelSpec spec, Collection<Param> params, int multiple) {
    return params.stream().mapToLong(param -> bytes(spec, param, multiple)).sum();
  }

  private static long bytes(ModelSpec spec, Param param, int multiple) {
    return (BIASES.contains(param) ? 2 : 1) * once(spec, param, multiple);
  }

  private static long once(ModelSpec spec, Param param, int multiple) {
    long[] shape = ParamShapes.shape(spec, param);
    long cols = Math.ceilDiv(shape[shape.length - 1], multiple) * multiple;
    return shape.length == 1
        ? Float.BYTES * cols
        : Short.BYTES * cols * (Math.ceilDiv(shape[0], multiple) * multiple);
  }
}
