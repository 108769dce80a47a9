package io.infinilora.engine;

import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.SampleResult;
import io.infinilora.backend.SampleRow;
import io.infinilora.backend.Tensor;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.model.LoraPort;
import io.infinilora.model.Transformer;
import io.infinilora.model.Workspace;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Executes steps on one stream: layers, logits, sampling. Driver thread only. */
final class StepRunner {
  private final Transformer model;
  private final Workspace workspace;
  private final KvCache cache;
  private final OpStream ops;
  private final float[] logits;

  StepRunner(Transformer model, Workspace workspace, KvCache cache, OpStream ops) {
    this.model = model;
    this.workspace = workspace;
    this.cache = cache;
    this.ops = ops;
    this.logits = new float[model.spec().vocab()];
  }

  /** Runs a step. On failure the LoRA side is told that nothing more will come. */
  List<SampleResult> run(StepTask task) {
    try {
      return isDecode(task) ? decode(task) : mixed(task);
    } catch (RuntimeException | Error e) {
      task.lora().abandon();
      throw e;
    }
  }

  /** Whether every row is a sequence of its own whose logits are wanted, all at once. */
  private boolean isDecode(StepTask task) {
    BatchLayout batch = task.batch();
    return task.observed().isEmpty()
        && batch.isDecode()
        && batch.rows() == batch.logitRows().length
        && batch.rows() <= workspace.logitCapacity();
  }

  private List<SampleResult> decode(StepTask task) {
    BatchLayout batch = task.batch();
    LoraPort lora = task.lora().port(ops);
    ops.step(
        batch,
        task.lora().key(),
        () -> {
          Tensor residual = model.forward(batch, workspace, cache, lora, ops);
          model.logits(residual, batch.logitRows(), workspace, ops);
        });
    return choose(workspace.logits().first(batch.rows()), task.samples(), 0);
  }

  private List<SampleResult> mixed(StepTask task) {
    Tensor residual = model.forward(task.batch(), workspace, cache, task.lora().port(ops), ops);
    for (StepTask.ObservedRows observed : task.observed()) {
      observe(observed, residual);
    }
    return sample(task, residual);
  }

  private void observe(StepTask.ObservedRows observed, Tensor residual) {
    int done = 0;
    while (done < observed.count()) {
      int count = Math.min(workspace.logitCapacity(), observed.count() - done);
      int[] rows = new int[count];
      for (int i = 0; i < count; i++) {
        rows[i] = observed.firstRow() + done + i;
      }
      Tensor result = model.logits(residual, rows, workspace, ops);
      for (int i = 0; i < count; i++) {
        ops.read(result, i, logits);
        observed.observer().logits(observed.firstPosition() + done + i, logits);
      }
      done += count;
    }
  }

  private List<SampleResult> sample(StepTask task, Tensor residual) {
    int[] rows = task.batch().logitRows();
    List<SampleResult> results = new ArrayList<>(rows.length);
    for (int from = 0; from < rows.length; from += workspace.logitCapacity()) {
      int to = Math.min(rows.length, from + workspace.logitCapacity());
      Tensor result = model.logits(residual, Arrays.copyOfRange(rows, from, to), workspace, ops);
      results.addAll(choose(result, task.samples().subList(from, to), from));
    }
    return results;
  }

  /**
   * Samples.
   *
   * @param first index of the first of these among the samples of the step
   * @throws UnusableLogitsException if it fails because of some rows
   */
  private List<SampleResult> choose(Tensor result, List<SampleRow> samples, int first) {
    try {
      return ops.sample(result, samples);
    } catch (InfiniLoraException e) {
      List<Integer> unusable = unusable(result, samples.size(), first, e);
      throw unusable.isEmpty() ? e : new UnusableLogitsException(unusable, e);
    }
  }

  private List<Integer> unusable(Tensor result, int rows, int first, InfiniLoraException failure) {
    List<Integer> unusable = new ArrayList<>();
    try {
      for (int row = 0; row < rows; row++) {
        ops.read(result, row, logits);
        if (!hasFiniteMaximum(logits)) {
          unusable.add(first + row);
        }
      }
    } catch (RuntimeException e) {
      failure.addSuppressed(e); // The device is lost: that is not the fault of single rows.
      return List.of();
    }
    return unusable;
  }

  private static boolean hasFiniteMaximum(float[] values) {
    float most = Float.NEGATIVE_INFINITY;
    for (float value : values) {
      most = Math.max(most, value); // NaN wins
    }
    return Float.isFinite(most);
  }

  /** Ends the stream. */
  void close() {
    ops.close();
  }
}
