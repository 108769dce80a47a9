package io.infinilora.backend.cpu;

/**
 * How a projection is cut into tasks: each takes some rows and a run of panels of one output. Runs
 * are long enough to stream, short enough that threads finish together.
 */
final class ProjectPlan {
  /** Tasks per thread to aim at. */
  private static final int TASKS_PER_THREAD = 4;

  /** Runs tasks. */
  interface Runner {
    void run(int tasks, WorkerPool.Task task);
  }

  private final PackedProjection weights;
  private final CpuTensor x;
  private final CpuTensor[] outs;
  private final int panelsPerTask;
  private final int rowsPerTask;

  /** First task of each output, for one range of rows; the last element is their number. */
  private final int[] starts;

  ProjectPlan(PackedProjection weights, CpuTensor x, CpuTensor[] outs, int threads) {
    this.weights = weights;
    this.x = x;
    this.outs = outs;
    int panels = 0;
    for (PackedMatrix m : weights.matrices()) {
      panels += m.panels();
    }
    rowsPerTask = MatrixKernels.MAX_ROWS;
    panelsPerTask =
        threads == 1 ? panels : Math.max(1, Math.ceilDiv(panels, threads * TASKS_PER_THREAD));
    starts = new int[outs.length + 1];
    for (int i = 0; i < outs.length; i++) {
      starts[i + 1] = starts[i] + Math.ceilDiv(weights.matrices().get(i).panels(), panelsPerTask);
    }
  }

  void run(Runner runner, Scratch[] scratch) {
    int perRows = starts[outs.length];
    int rowTasks = Math.ceilDiv(x.rows(), rowsPerTask);
    runner.run(
        perRows * rowTasks,
        (index, thread) -> task(index / perRows, index % perRows, scratch[thread]));
  }

  private void task(int rowTask, int index, Scratch scratch) {
    int output = 0;
    while (index >= starts[output + 1]) {
      output++;
    }
    PackedMatrix m = weights.matrices().get(output);
    int fromPanel = (index - starts[output]) * panelsPerTask;
    int row = rowTask * rowsPerTask;
    MatrixKernels.multiply(
        m,
        fromPanel,
        Math.min(m.panels(), fromPanel + panelsPerTask),
        Math.min(rowsPerTask, x.rows() - row),
        x.row(row),
        x.stride(),
        outs[output].row(row),
        outs[output].stride(),
        scratch);
  }
}
