package io.infinilora.backend.cuda;

/** Hashes of work that is given to the driver, by which a replay of a recorded step is checked. */
final class Signature {
  private Signature() {}

  /** The hash of what there was so far, and then a value. */
  static long mix(long hash, long value) {
    // One round of SplitMix64's finaliser per value.
    long z = (hash ^ value) * 0xBF58476D1CE4E5B9L;
    return z ^ (z >>> 29);
  }

  /** Of a copy of rows, as {@link CudaStream#copyRows} has them. */
  static long ofCopy(long from, long fromStride, long to, long toStride, long width, int rows) {
    long hash = mix(mix(from, fromStride), to);
    return mix(mix(mix(hash, toStride), width), rows);
  }

  /** Of a product by the matrix library. */
  static long ofProduct(
      CudaTensor x, int rows, long weights, long bias, int features, int in, CudaTensor y) {
    long hash = mix(mix(x.address(), x.stride()), rows);
    hash = mix(mix(mix(mix(hash, weights), bias), features), in);
    return mix(mix(mix(hash, y.address()), y.stride()), y.wide() ? 1 : 0);
  }
}
