package io.infinilora.backend.cuda;

import io.infinilora.backend.Embedding;

/**
 * An embedding table in bf16, laid out as the weights of a projection, which it may be as well.
 *
 * @param shape of that projection: {@code in} is the width, the only output the vocabulary
 */
record CudaEmbedding(CudaBackend owner, StackedOutputs shape, long address) implements Embedding {

  @Override
  public int vocab() {
    return shape.outs().getFirst();
  }

  @Override
  public int hidden() {
    return shape.in();
  }

  /** Elements from a row to the next, a multiple of 8. */
  int stride() {
    return shape.paddedIn();
  }

  /** The same memory as an output head. */
  CudaProjection projection() {
    return new CudaProjection(owner, shape, address, 0);
  }
}
