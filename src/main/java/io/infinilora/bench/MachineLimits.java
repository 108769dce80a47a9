package io.infinilora.bench;

import java.util.concurrent.atomic.AtomicLong;

/** What the machine can do at most, measured at the time of the benchmark. */
final class MachineLimits {
  private static final int WORDS = 1 << 26;

  /** Keeps results alive. */
  private static final AtomicLong SINK = new AtomicLong();

  private MachineLimits() {}

  /**
   * Bytes per second that {@code threads} threads together read from memory, each 256 MiB of its
   * own.
   */
  static double readBandwidth(int threads) throws InterruptedException {
    int[][] buffers = new int[threads][WORDS];
    double best = 0;
    for (int round = 0; round < 7; round++) {
      Thread[] team = new Thread[threads];
      long start = System.nanoTime();
      for (int t = 0; t < threads; t++) {
        int[] buffer = buffers[t];
        team[t] = Thread.ofPlatform().start(() -> SINK.addAndGet(sum(buffer)));
      }
      for (Thread thread : team) {
        thread.join();
      }
      best = Math.max(best, 4e9 * WORDS * threads / (System.nanoTime() - start));
    }
    return best;
  }

  private static int sum(int[] values) {
    int sum = 0;
    for (int v : values) {
      sum += v;
    }
    return sum;
  }

  /**
   * Cycles per second of one core: three rounds of shift and exclusive or, each dependent on the
   * last, take six cycles.
   */
  static double frequency() {
    double best = 0;
    for (int round = 0; round < 10; round++) {
      int steps = 5_000_000;
      long start = System.nanoTime();
      SINK.addAndGet(xorshift(steps));
      best = Math.max(best, 6e9 * steps / (System.nanoTime() - start));
    }
    return best;
  }

  private static long xorshift(int steps) {
    long x = 88172645463325252L;
    for (int i = 0; i < steps; i++) {
      x ^= x << 13;
      x ^= x >>> 7;
      x ^= x << 17;
    }
    return x;
  }
}
