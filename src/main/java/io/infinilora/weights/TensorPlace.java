package io.infinilora.weights;

import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.util.List;

/**
 * Where a parameter lies: in which tensor, and which part of the tensor it is. Along the outputs a
 * tensor holds one parameter, or several that share it; it holds them once, or for all experts of a
 * layer.
 *
 * @param pattern the tensor's name; {@code %d} stands for the layer, {@code %e} for the expert. A
 *     parameter of an expert in a tensor without {@code %e} lies there beside those of the others
 * @param scales likewise the name of the scales' tensor where weights are MXFP4 in two tensors,
 *     blocks {@code [.., in / 32, 16]} and scales {@code [.., in / 32]}; else null
 * @param sharing the parameters in this tensor, in their order; empty for the parameter alone
 * @param interleaved whether the outputs of the sharing parameters alternate, instead of following
 *     each other
 * @param transposed whether the tensor is {@code [in, out]}
 * @param flat whether experts follow each other along the rows, instead of being a dimension
 */
record TensorPlace(
    String pattern,
    String scales,
    List<Param> sharing,
    boolean interleaved,
    boolean transposed,
    boolean flat) {

  /** A tensor that is the parameter, or {@code [experts, out, in]} without {@code %e}. */
  static TensorPlace of(String pattern) {
    return new TensorPlace(pattern, null, List.of(), false, false, false);
  }

  /** These parameters follow each other along the outputs. */
  TensorPlace shared(Param... params) {
    return new TensorPlace(pattern, scales, List.of(params), false, transposed, flat);
  }

  /** These parameters alternate along the outputs. */
  TensorPlace interleaved(Param... params) {
    return new TensorPlace(pattern, scales, List.of(params), true, transposed, flat);
  }

  TensorPlace asTransposed() {
    return new TensorPlace(pattern, scales, sharing, interleaved, true, flat);
  }

  TensorPlace asFlat() {
    return new TensorPlace(pattern, scales, sharing, interleaved, transposed, true);
  }

  TensorPlace scaledBy(String scalesPattern) {
    return new TensorPlace(pattern, scalesPattern, sharing, interleaved, transposed, flat);
  }

  /** The tensor's name. */
  String name(int layer, int expert) {
    return filled(pattern, layer, expert);
  }

  /** The name of the scales' tensor. */
  String scalesName(int layer, int expert) {
    return filled(scales, layer, expert);
  }

  private static String filled(String pattern, int layer, int expert) {
    return pattern.replace("%d", Integer.toString(layer)).replace("%e", Integer.toString(expert));
  }

  /** Whether the tensor holds the parameter for all experts of a layer. */
  private boolean stacked(ModelSpec spec, Param param) {
    return ParamShapes.ofExpert(spec, param) && !pattern.contains("%e");
  }

  /** Outputs of all parameters in the tensor. */
  private long outputs(ModelSpec spec, Param param) {
    return sharing.isEmpty()
        ? ParamShapes.shape(spec, param)[0]
        : sharing.stream().mapToLong(p -> ParamShapes.shape(spec, p)[0]).sum();
  }

  /** The shape that the tensor must have, outermost size first. */
  long[] shape(ModelSpec spec, Param param) {
    long[] own = ParamShapes.shape(spec, param);
    long outputs = outputs(spec, param);
    long[] one;
    if (own.length == 1) {
      one = new long[] {outputs};
    } else {
      one = transposed ? new long[] {own[1], outputs} : new long[] {outputs, own[1]};
    }
    if (!stacked(spec, param)) {
      return one;
    }
    int experts = spec.mlp().moe().experts();
    if (flat) {
      one[0] *= experts;
      return one;
    }
    return one.length == 1 ? new long[] {experts, one[0]} : new long[] {experts, one[0], one[1]};
  }

  /** The parameter's part of its tensor. */
  WeightMatrix part(WeightMatrix tensor, ModelSpec spec, Param param, int expert) {
    WeightMatrix own = tensor;
    if (stacked(spec, param)) {
      int rows = tensor.rows() / spec.mlp().moe().experts();
      own = own.rows(expert * rows, 1, rows);
    }
    if (transposed) {
      own = own.transposed();
    }
    return own.rows(first(spec, param), step(), outputsOf(spec, param));
  }

  /** For each element of a parameter vector its place in its tensor. */
  int[] elements(TensorView tensor, ModelSpec spec, Param param, int expert) {
    int start = first(spec, param) + (stacked(spec, param) ? expert * tensor.cols() : 0);
    int[] elements = new int[outputsOf(spec, param)];
    for (int i = 0; i < elements.length; i++) {
      elements[i] = start + i * step();
    }
    return elements;
  }

  private static int outputsOf(ModelSpec spec, Param param) {
    return Math.toIntExact(ParamShapes.shape(spec, param)[0]);
  }

  /** The tensor's output that is the parameter's first. */
  private int first(ModelSpec spec, Param param) {
    int index = Math.max(0, sharing.indexOf(param));
    return interleaved
        ? index
        : sharing.subList(0, index).stream().mapToInt(p -> outputsOf(spec, p)).sum();
  }

  private int step() {
    return interleaved ? sharing.size() : 1;
  }
}
