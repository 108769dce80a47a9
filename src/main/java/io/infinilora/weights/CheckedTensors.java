package io.infinilora.weights;

import io.infinilora.core.DType;
import io.infinilora.core.ModelSpec;
import io.infinilora.core.TensorView;
import io.infinilora.core.WeightMatrix;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import java.util.function.Predicate;

/**
 * The tensors of a model as its configuration expects them: asking for one checks that it is there
 * and has the right shape, and what was never asked for is left over. Errors are BAD_MODEL_FILE and
 * name file and tensor. Not thread-safe.
 */
final class CheckedTensors {

  private final TensorIndex tensors;
  private final Set<String> claimed = new HashSet<>();

  CheckedTensors(TensorIndex tensors) {
    this.tensors = tensors;
  }

  /** A tensor of weights. */
  TensorView plain(String name, long[] shape) {
    claim(name);
    return checked(tensors.view(name), shape);
  }

  /** A tensor of one or several vectors, whose elements can be picked one by one. */
  TensorView vectors(String name, long[] shape) {
    TensorView view = plain(name, shape);
    if (view.dtype().quantised()) {
      throw tensors.fault("tensor " + name + " is a vector, but quantised as " + view.dtype());
    }
    if (view.elements() > Integer.MAX_VALUE) {
      throw tensors.fault("tensor " + name + " is too large for vectors");
    }
    return view;
  }

  /**
   * MXFP4 weights in two tensors of bytes.
   *
   * @param shape of the weights
   */
  WeightMatrix scaled(String blocksName, String scalesName, long[] shape) {
    int last = shape.length - 1;
    int block = DType.FP4.blockElements();
    if (shape[last] % block != 0) {
      throw tensors.fault(
          "tensor %s: rows of %d weights do not fill blocks of %d"
              .formatted(blocksName, shape[last], block));
    }
    long[] scalesShape = shape.clone();
    scalesShape[last] /= block;
    long[] blocksShape = Arrays.copyOf(scalesShape, shape.length + 1);
    blocksShape[last + 1] = DType.FP4.blockBytes();
    claim(blocksName);
    claim(scalesName);
    TensorView blocks = checked(tensors.bytes(blocksName), blocksShape);
    TensorView scales = checked(tensors.bytes(scalesName), scalesShape);
    return WeightMatrix.scaled(
        new TensorView(blocksName, DType.FP4, shape, blocks.data(), blocks.source()), scales);
  }

  private void claim(String name) {
    if (!tensors.names().contains(name)) {
      throw tensors.fault("tensor " + name + " is missing");
    }
    claimed.add(name);
  }

  private TensorView checked(TensorView view, long[] expected) {
    if (!Arrays.equals(view.shape(), expected)) {
      throw tensors.fault(
          "tensor %s has shape %s, but the configuration asks for %s"
              .formatted(view.name(), Arrays.toString(view.shape()), Arrays.toString(expected)));
    }
    // Rows are counted in 32 bits from here on.
    if (view.elements() / view.shape()[expected.length - 1] > Integer.MAX_VALUE) {
      throw tensors.fault("tensor " + view.name() + " has too many rows");
    }
    return view;
  }

  /** Fails if there is a tensor that nobody asked for, unless it may be there. */
  void refuseLeftovers(Predicate<String> dispensable, ModelSpec spec) {
    for (String name : tensors.names()) {
      if (!claimed.contains(name) && tensors.supported(name) && !dispensable.test(name)) {
        ModelSpec.Moe moe = spec.mlp().moe();
        throw tensors.fault(
            "tensor %s is no parameter of this %s model of %d layers%s"
                .formatted(
                    name,
                    spec.architecture(),
                    spec.layers(),
                    moe == null ? "" : " and " + moe.experts() + " experts"));
      }
    }
  }
}
