package io.infinilora.backend.cuda;

import io.infinilora.backend.ExpertProjection;

/**
 * The experts of linear layers that share their input: {@code [experts][paddedOut][paddedIn]} in
 * bf16.
 *
 * @param weights device address
 * @param biases device address of {@code [experts][paddedOut]} in float32, or 0
 */
record CudaExpertProjection(
    CudaBackend owner, int experts, StackedOutputs shape, long weights, long biases)
    implements ExpertProjection {

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
    return experts * shape.bytes();
  }
}
