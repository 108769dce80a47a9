package io.infinilora.backend.cpu;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;

/** Rows and routing between tensors and the payloads of frames. Shapes are checked already. */
final class TransferOps {
  private static final ValueLayout.OfInt INT = ValueLayout.JAVA_INT_UNALIGNED;

  /** Bytes of an element of a packed row. */
  static final int ROW_ELEMENT_BYTES = 2;

  /** Bytes of a choice: expert and weight. */
  static final int CHOICE_BYTES = Integer.BYTES + Float.BYTES;

  /** Elements below which a task is not worth waking a worker for. */
  private static final int ELEMENTS_PER_TASK = 65_536;

  /** Runs tasks. */
  interface Runner {
    void run(String operator, CpuTensor shape, int tasks, WorkerPool.Task task);
  }

  private interface Row {
    void run(int index);
  }

  private final Runner runner;

  TransferOps(Runner runner) {
    this.runner = runner;
  }

  void pack(CpuTensor x, int[] rows, MemorySegment out) {
    long bytes = (long) ROW_ELEMENT_BYTES * x.cols();
    overRows(
        "packRows",
        x,
        rows.length,
        i -> Bf16Kernels.pack(x.row(rows[i]), out.address() + i * bytes, x.cols()));
  }

  void unpack(MemorySegment x, CpuTensor out) {
    long bytes = (long) ROW_ELEMENT_BYTES * out.cols();
    overRows(
        "unpackRows",
        out,
        out.rows(),
        i -> Bf16Kernels.unpack(x.address() + i * bytes, out.row(i), out.cols()));
  }

  void add(MemorySegment x, int[] rows, CpuTensor y) {
    long bytes = (long) ROW_ELEMENT_BYTES * y.cols();
    overRows(
        "addRows",
        y,
        rows.length,
        i -> Bf16Kernels.add(x.address() + i * bytes, y.row(rows[i]), y.cols()));
  }

  private void overRows(String operator, CpuTensor shape, int rows, Row body) {
    int perTask = Math.max(1, ELEMENTS_PER_TASK / Math.max(1, shape.cols()));
    runner.run(
        operator,
        shape,
        Math.ceilDiv(rows, perTask),
        (index, thread) -> {
          int end = Math.min(rows, (index + 1) * perTask);
          for (int i = index * perTask; i < end; i++) {
            body.run(i);
          }
        });
  }

  void packRouting(CpuRouting from, int[] rows, MemorySegment out) {
    int topK = from.topK();
    long weights = (long) Integer.BYTES * rows.length * topK;
    for (int i = 0; i < rows.length; i++) {
      for (int j = 0; j < topK; j++) {
        long at = (long) Integer.BYTES * (i * topK + j);
        out.set(INT, at, from.choices()[rows[i] * topK + j]);
        out.set(Memory.FLOAT, weights + at, from.weights()[rows[i] * topK + j]);
      }
    }
  }

  /** Nothing is written if an expert does not exist. */
  void unpackRouting(MemorySegment from, CpuRouting out) {
    int choices = out.rows() * out.topK();
    long weights = (long) Integer.BYTES * choices;
    for (int i = 0; i < choices; i++) {
      int expert = from.get(INT, (long) Integer.BYTES * i);
      if (expert < 0 || expert >= out.experts()) {
        throw new IllegalArgumentException("expert " + expert + " of " + out.experts());
      }
    }
    for (int i = 0; i < choices; i++) {
      long at = (long) Integer.BYTES * i;
      out.choices()[i] = from.get(INT, at);
      out.weights()[i] = from.get(Memory.FLOAT, weights + at);
    }
    out.written();
  }
}
