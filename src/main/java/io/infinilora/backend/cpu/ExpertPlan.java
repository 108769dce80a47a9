package io.infinilora.backend.cpu;

/**
 * How a product with routed experts is cut into tasks. A task takes some of the rows of one expert
 * and a run of panels of one output: it gathers the rows, multiplies them together and puts the
 * results where they belong. Tasks are of similar cost, whether the rows are spread over many
 * experts or go to a single one.
 */
final class ExpertPlan {
  /** Tasks per thread to aim at. */
  private static final int TASKS_PER_THREAD = 4;

  /** What unpacking a panel costs, in rows of products with it. */
  private static final int UNPACK_ROWS = 3;

  /** Panels are taken in pairs, since a single row is computed for two panels at once. */
  private static final int PAIR = 2;

  private static final int FIELDS = 6;

  private final PackedExperts weights;
  private final ExpertGroups groups;

  /** Per task: expert, output, first and end place in the order of the groups, panels. */
  private final int[] tasks;

  private int count;

  ExpertPlan(PackedExperts weights, ExpertGroups groups, int threads) {
    this.weights = weights;
    this.groups = groups;
    long work = threads == 1 ? Integer.MAX_VALUE : work() / (threads * TASKS_PER_THREAD) + 1;
    int needed = 0;
    for (int e = 0; e < weights.experts(); e++) {
      needed += cut(e, work, null);
    }
    tasks = new int[FIELDS * needed];
    for (int e = 0; e < weights.experts(); e++) {
      cut(e, work, tasks);
    }
  }

  private int rows(int expert) {
    return groups.start(expert + 1) - groups.start(expert);
  }

  /** Products of a row with a panel, unpacking included. */
  private long work() {
    long work = 0;
    for (int e = 0; e < weights.experts(); e++) {
      for (int i = 0; rows(e) > 0 && i < weights.outputs(); i++) {
        work += (long) (rows(e) + UNPACK_ROWS) * weights.matrix(e, i).panels();
      }
    }
    return work;
  }

  /**
   * Cuts the rows of an expert into tasks of about {@code work}.
   *
   * @param into where they go; null to count only
   * @return how many
   */
  private int cut(int e, long work, int[] into) {
    int rows = rows(e);
    int chunks = Math.ceilDiv(rows, MatrixKernels.MAX_ROWS);
    int cut = 0;
    for (int c = 0; c < chunks; c++) {
      int from = (int) ((long) rows * c / chunks);
      int to = (int) ((long) rows * (c + 1) / chunks);
      for (int i = 0; i < weights.outputs(); i++) {
        int panels = weights.matrix(e, i).panels();
        int most = (int) Math.clamp(work / (to - from + UNPACK_ROWS), 1, panels);
        int step = Memory.roundUp(Math.ceilDiv(panels, Math.ceilDiv(panels, most)), PAIR);
        for (int panel = 0; panel < panels; panel += step) {
          if (into != null) {
            int at = FIELDS * count++;
            into[at] = e;
            into[at + 1] = i;
            into[at + 2] = groups.start(e) + from;
            into[at + 3] = groups.start(e) + to;
            into[at + 4] = panel;
            into[at + 5] = Math.min(panels, panel + step);
          }
          cut++;
        }
      }
    }
    return cut;
  }

  /** Number of tasks. */
  int tasks() {
    return count;
  }

  /**
   * Does a task whose results go to the routed rows of the outputs.
   *
   * @param x {@code [rows, in]}, each for {@code topK} routed rows
   */
  void project(
      int task, CpuTensor x, int topK, CpuTensor[] outs, Scratch scratch, Scratch matrixScratch) {
    int at = FIELDS * task;
    PackedMatrix m = weights.matrix(tasks[at], tasks[at + 1]);
    CpuTensor out = outs[tasks[at + 1]];
    int from = tasks[at + 2];
    int rows = tasks[at + 3] - from;
    int fromPanel = tasks[at + 4];
    int toPanel = tasks[at + 5];
    int[] order = groups.order();
    if (rows == 1) {
      multiply(m, task, 1, x.row(order[from] / topK), 0, out.row(order[from]), 0, matrixScratch);
      return;
    }
    long inputs =
        scratch.reserve(rows * (x.stride() + (toPanel - fromPanel) * TileKernels.PANEL_BYTES));
    long results = inputs + rows * x.stride();
    long resultStride = (toPanel - fromPanel) * TileKernels.PANEL_BYTES;
    for (int r = 0; r < rows; r++) {
      Memory.copy(x.row(order[from + r] / topK), inputs + r * x.stride(), x.stride());
    }
    long offset = fromPanel * TileKernels.PANEL_BYTES;
    multiply(m, task, rows, inputs, x.stride(), results - offset, resultStride, matrixScratch);
    long bytes = Math.min(resultStride, out.stride() - offset);
    for (int r = 0; r < rows; r++) {
      Memory.copy(results + r * resultStride, out.row(order[from + r]) + offset, bytes);
    }
  }

  /**
   * Does a task whose results stay in the order of the groups.
   *
   * @param x a row per routed row
   * @param out first row of the results, a row of the output for each routed row
   */
  void multiply(int task, CpuTensor x, long out, Scratch scratch, Scratch matrixScratch) {
    int at = FIELDS * task;
    PackedMatrix m = weights.matrix(tasks[at], tasks[at + 1]);
    int from = tasks[at + 2];
    int rows = tasks[at + 3] - from;
    int[] order = groups.order();
    long inputs = x.row(order[from]);
    if (rows > 1) {
      inputs = scratch.reserve(rows * x.stride());
      for (int r = 0; r < rows; r++) {
        Memory.copy(x.row(order[from + r]), inputs + r * x.stride(), x.stride());
      }
    }
    long outStride = 4L * m.out();
    multiply(m, task, rows, inputs, x.stride(), out + from * outStride, outStride, matrixScratch);
  }

  private void multiply(
      PackedMatrix m,
      int task,
      int rows,
      long x,
      long xStride,
      long out,
      long outStride,
      Scratch scratch) {
    int at = FIELDS * task;
    MatrixKernels.multiply(
        m, tasks[at + 4], tasks[at + 5], rows, x, xStride, out, outStride, scratch);
  }
}
