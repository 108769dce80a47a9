package io.infinilora.backend.cuda;

/**
 * Products of many rows without a library: {@code matrix_many_portable.cu}, correct everywhere. The
 * stream's thread only.
 */
final class PortableRows implements ManyRowsMatrix {
  private static final int THREADS = 256;

  /** Room for the starts of one expert. */
  private static final int SHARED_BYTES = 2 * Integer.BYTES;

  private final CudaStream stream;
  private final Kernel product;

  PortableRows(CudaStream stream) {
    this.stream = stream;
    product = stream.device().kernel("matrix_many_portable", "matrix_many_portable");
  }

  @Override
  public void multiply(
      CudaTensor x, int rows, long weights, long bias, int features, int in, CudaTensor y) {
    stream
        .launch(product)
        .pointer(x.address())
        .int32(x.stride())
        .int32(1)
        .pointer(weights)
        .pointer(0)
        .pointer(0)
        .pointer(bias)
        .pointer(y.address())
        .int32(y.stride())
        .int32(rows)
        .int32(features)
        .int32(in)
        .int32(1)
        .int32(y.wide() ? 1 : 0)
        .grid(2 * stream.device().multiprocessors())
        .block(THREADS)
        .shared(SHARED_BYTES)
        .dependent()
        .go();
  }

  @Override
  public void close() {}
}
