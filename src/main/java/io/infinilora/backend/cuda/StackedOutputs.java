package io.infinilora.backend.cuda;

import java.util.List;

/**
 * How the outputs of a projection lie in its weights: one after another, each widened to a multiple
 * of 8 features, the added ones being zeros.
 *
 * @param in input features
 * @param outs output features of each output
 */
record StackedOutputs(int in, List<Integer> outs) {

  StackedOutputs {
    outs = List.copyOf(outs);
  }

  /** Elements of a row of weights. */
  int paddedIn() {
    return CudaTensor.padded(in);
  }

  /** Rows of weights. */
  int paddedOut() {
    return offset(outs.size());
  }

  /** First row of an output. */
  int offset(int output) {
    int offset = 0;
    for (int i = 0; i < output; i++) {
      offset += CudaTensor.padded(outs.get(i));
    }
    return offset;
  }

  /** Rows of an output, the added ones included. */
  int paddedOut(int output) {
    return CudaTensor.padded(outs.get(output));
  }

  /** Bytes of the weights of one expert, or of all there is. */
  long bytes() {
    return (long) Short.BYTES * paddedIn() * paddedOut();
  }
}
