package io.infinilora.backend.cpu;

import io.infinilora.backend.Routing;

/**
 * Choices and weights of rows, and the rows by expert: grouped once, when they are written, since
 * all operators of a layer need it.
 */
final class CpuRouting implements Routing {
  private final CpuBackend owner;
  private final int rows;
  private final int topK;
  private final int experts;
  private final int[] choices;
  private final float[] weights;
  private final ExpertGroups groups;

  CpuRouting(CpuBackend owner, int rows, int topK, int experts) {
    if (rows < 0 || topK < 1 || topK > experts) {
      throw new IllegalArgumentException(
          "no routing of %d rows to %d of %d experts".formatted(rows, topK, experts));
    }
    this.owner = owner;
    this.rows = rows;
    this.topK = topK;
    this.experts = experts;
    choices = new int[Math.multiplyExact(rows, topK)];
    weights = new float[choices.length];
    groups = new ExpertGroups(experts, choices.length);
  }

  /** A view of the first rows. */
  private CpuRouting(CpuRouting whole, int rows) {
    this.owner = whole.owner;
    this.rows = rows;
    this.topK = whole.topK;
    this.experts = whole.experts;
    choices = whole.choices;
    weights = whole.weights;
    groups = whole.groups;
  }

  @Override
  public CpuRouting first(int n) {
    if (n < 0 || n > choices.length / topK) {
      throw new IndexOutOfBoundsException(
          n + " rows of a routing with room for " + choices.length / topK);
    }
    return n == rows ? this : new CpuRouting(this, n);
  }

  @Override
  public int rows() {
    return rows;
  }

  @Override
  public int topK() {
    return topK;
  }

  @Override
  public int experts() {
    return experts;
  }

  CpuBackend owner() {
    return owner;
  }

  /** Expert of each routed row; shared. */
  int[] choices() {
    return choices;
  }

  /** Weight of each routed row; shared. */
  float[] weights() {
    return weights;
  }

  /** Whether both are views of the same rows. */
  boolean shares(CpuRouting other) {
    return choices == other.choices;
  }

  /** Groups the rows; to be called by whoever has written them. */
  void written() {
    groups.group(choices, rows * topK);
  }

  /** The rows by expert. A view of other rows than those last written is grouped by itself. */
  ExpertGroups groups() {
    if (groups.routedRows() == rows * topK) {
      return groups;
    }
    ExpertGroups own = new ExpertGroups(experts, rows * topK);
    own.group(choices, rows * topK);
    return own;
  }

  /** For messages. */
  String shape() {
    return "[%d rows, %d of %d experts]".formatted(rows, topK, experts);
  }
}
