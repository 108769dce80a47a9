package io.infinilora.backend.cuda;

import io.infinilora.backend.Projection;

/**
 * Linear layers that share their input, as one matrix {@code [paddedOut, paddedIn]} in bf16.
 *
 * @param weights device address
 * @param biases device address of {@code [paddedOut]} in float32, or 0
 */
record CudaProjection(CudaBackend owner, StackedOutputs shape, long weights, long biases)
    implements Projection {

  @Override
  public int outputs() {
    return shape.outs().size();
  }

  @Override
  public int in() {
    return shape.in();
  }

  @Override
  public int out(int i) {
    return shape.outs().get(i);
  }

  @Override
  public long bytes() {
    return shape.bytes();
  }

  /** Address of an output's weights. */
  long weights(int output) {
    return weights + (long) Short.BYTES * shape.offset(output) * shape.paddedIn();
  }

  /** Address of an output's bias, or 0. */
  long biases(int output) {
    return biases == 0 ? 0 : biases + (long) Float.BYTES * shape.offset(output);
  }
}
