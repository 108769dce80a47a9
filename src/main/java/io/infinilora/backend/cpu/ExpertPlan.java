package io.infinilora.backend.cpu;

import java.util.ArrayList;
import java.util.List;

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

  /**
   * Part of the product.
   *
   * @param from first place in the order of the groups
   * @param to place after the last
   */
  record Task(int expert, int output, int from, int to, int fromPanel, int toPanel) {
    int rows() {
      return to - from;
    }

    int panels() {
      return toPanel - fromPanel;
    }

    /** Products of a row with a panel, unpacking included. */
    long cost() {
      return ExpertPlan.cost(rows(), panels());
    }
  }

  private final PackedExperts weights;
  private final ExpertGroups groups;
  private final List<Task> tasks = new ArrayList<>();

  ExpertPlan(PackedExperts weights, ExpertGroups groups, int threads) {
    this.weights = weights;
    this.groups = groups;
    long work = 0;
    for (int e = 0; e < weights.experts(); e++) {
      for (int i = 0; groups.rows(e) > 0 && i < weights.outputs(); i++) {
        work += cost(groups.rows(e), weights.matrix(e, i).panels());
      }
    }
    long perTask = threads == 1 ? work : Math.ceilDiv(work, threads * TASKS_PER_THREAD);
    for (int e = 0; e < weights.experts(); e++) {
      int rows = groups.rows(e);
      int chunks = Math.ceilDiv(rows, MatrixKernels.MAX_ROWS);
      for (int c = 0; c < chunks; c++) {
        int from = groups.start(e) + (int) ((long) rows * c / chunks);
        int to = groups.start(e) + (int) ((long) rows * (c + 1) / chunks);
        for (int i = 0; i < weights.outputs(); i++) {
          cut(e, i, from, to, perTask);
        }
      }
    }
  }

  private static long cost(int rows, int panels) {
    return (long) (rows + UNPACK_ROWS) * panels;
  }

  /** Cuts a product into runs of panels of about the same length, which cost {@code perTask}. */
  private void cut(int expert, int output, int from, int to, long perTask) {
    int panels = weights.matrix(expert, output).panels();
    long tasksNeeded = Math.ceilDiv(cost(to - from, panels), perTask);
    int step = Memory.roundUp(Math.ceilDiv(panels, (int) Math.min(panels, tasksNeeded)), PAIR);
    for (int panel = 0; panel < panels; panel += step) {
      tasks.add(new Task(expert, output, from, to, panel, Math.min(panels, panel + step)));
    }
  }

  /** All tasks; they do not overlap. */
  List<Task> tasks() {
    return tasks;
  }

  /**
   * Does a task whose results go to the routed rows of the outputs.
   *
   * @param x {@code [rows, in]}, each for {@code topK} routed rows
   */
  void project(
      int index, CpuTensor x, int topK, CpuTensor[] outs, Scratch scratch, Scratch matrixScratch) {
    Task task = tasks.get(index);
    CpuTensor out = outs[task.output()];
    int[] order = groups.order();
    int rows = task.rows();
    if (rows == 1) {
      int routed = order[task.from()];
      multiply(task, x.row(routed / topK), 0, out.row(routed), 0, matrixScratch);
      return;
    }
    long resultStride = task.panels() * TileKernels.PANEL_BYTES;
    long inputs = scratch.reserve(rows * (x.stride() + resultStride));
    long results = inputs + rows * x.stride();
    for (int r = 0; r < rows; r++) {
      Memory.copy(x.row(order[task.from() + r] / topK), inputs + r * x.stride(), x.stride());
    }
    long offset = task.fromPanel() * TileKernels.PANEL_BYTES;
    multiply(task, inputs, x.stride(), results - offset, resultStride, matrixScratch);
    long bytes = Math.min(resultStride, out.stride() - offset);
    for (int r = 0; r < rows; r++) {
      Memory.copy(results + r * resultStride, out.row(order[task.from() + r]) + offset, bytes);
    }
  }

  /**
   * Does a task whose results stay in the order of the groups.
   *
   * @param x a row per routed row
   * @param out first row of the results, one per routed row
   */
  void multiply(int index, CpuTensor x, long out, Scratch scratch, Scratch matrixScratch) {
    Task task = tasks.get(index);
    int[] order = groups.order();
    int rows = task.rows();
    long inputs = x.row(order[task.from()]);
    if (rows > 1) {
      inputs = scratch.reserve(rows * x.stride());
      for (int r = 0; r < rows; r++) {
        Memory.copy(x.row(order[task.from() + r]), inputs + r * x.stride(), x.stride());
      }
    }
    long outStride = 4L * weights.out(task.output());
    multiply(task, inputs, x.stride(), out + task.from() * outStride, outStride, matrixScratch);
  }

  private void multiply(
      Task task, long x, long xStride, long out, long outStride, Scratch scratch) {
    MatrixKernels.multiply(
        weights.matrix(task.expert(), task.output()),
        task.fromPanel(),
        task.toPanel(),
        task.rows(),
        x,
        xStride,
        out,
        outStride,
        scratch);
  }
}
