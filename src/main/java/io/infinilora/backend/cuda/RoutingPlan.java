package io.infinilora.backend.cuda;

/**
 * Rows by expert, as {@code experts.cuh} lays it out. Belongs to a routing and all its views; the
 * stream that wrote the routing last makes it.
 */
final class RoutingPlan {
  /** Routed rows of a block of the kernels that plan. */
  private static final int BLOCK_ROWS = 1024;

  private final long starts;
  private final long sorted;
  private final long active;
  private final long counts;
  private int rows = -1;

  /**
   * A plan in zeroed memory.
   *
   * @param address of {@link #bytes}
   * @param routed rows at most
   */
  RoutingPlan(long address, int routed, int experts) {
    starts = address;
    active = starts + 4L * (experts + 1);
    counts = active + 4L * (experts + 1);
    sorted = counts + 4L * blocks(routed) * experts;
  }

  /** Bytes that a plan takes. */
  static long bytes(int routed, int experts) {
    return 4L * (2L * (experts + 1) + (long) blocks(routed) * experts + routed);
  }

  /** Blocks of the kernels that plan. */
  static int blocks(int routed) {
    return Math.ceilDiv(routed, BLOCK_ROWS);
  }

  long starts() {
    return starts;
  }

  long sorted() {
    return sorted;
  }

  long active() {
    return active;
  }

  /** Workspace: rows of each expert by block. */
  long counts() {
    return counts;
  }

  /** Rows that it is made for, or -1. */
  int rows() {
    return rows;
  }

  void madeFor(int count) {
    rows = count;
  }
}
