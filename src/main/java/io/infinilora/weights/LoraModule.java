package io.infinilora.weights;

/**
 * A linear module, or a parameter that holds several, which an adapter may change as one.
 *
 * @param name within the layer; {@code %d} stands for the expert
 * @param in features that it reads
 * @param out features that it gives
 * @param stacked how the matrices of all experts lie in it, or null if it is one matrix
 * @param split what it means to the model
 */
record LoraModule(String name, int in, int out, Stacked stacked, LoraSplit split) {

  /** A parameter {@code [experts, ., .]}. */
  record Stacked(int experts, Order order) {}

  /** Which dimension of a stacked parameter comes first after the experts. */
  enum Order {
    IN_OUT,
    OUT_IN
  }

  /** A module or parameter that is one matrix. */
  static LoraModule single(String name, int in, int out, LoraSplit split) {
    return new LoraModule(name, in, out, null, split);
  }

  /**
   * The shape of A in the file.
   *
   * @param transposed whether A is on the outputs
   */
  long[] shapeOfA(int rank, boolean transposed) {
    return new long[] {(long) stack() * rank, transposed ? out : in};
  }

  /** The shape of B in the file, likewise. */
  long[] shapeOfB(int rank, boolean transposed) {
    return new long[] {transposed ? in : out, (long) stack() * rank};
  }

  private int stack() {
    return stacked == null ? 1 : stacked.experts();
  }
}
