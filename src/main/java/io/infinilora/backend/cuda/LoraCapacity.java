package io.infinilora.backend.cuda;

/**
 * Sizes that launches are made for. In a step that may be recorded they are rounded up, so that
 * other steps of the same bucket make the same launches.
 */
final class LoraCapacity {
  private final CudaStream stream;

  LoraCapacity(CudaStream stream) {
    this.stream = stream;
  }

  /** Whether launches are to be alike for all steps of a bucket. */
  boolean padded() {
    return stream.recorder().active();
  }

  /** Rows. */
  int rows(int rows) {
    return stream.launchRows(rows);
  }

  /** A number of adapters, or of rank blocks. */
  int count(int count) {
    return padded() ? roundUpToPowerOfTwo(count) : count;
  }

  /** The next power of two; 1 for less. */
  static int roundUpToPowerOfTwo(int n) {
    return n <= 1 ? 1 : Integer.highestOneBit(n - 1) * 2;
  }
}
