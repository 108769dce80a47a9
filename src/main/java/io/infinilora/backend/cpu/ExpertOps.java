package io.infinilora.backend.cpu;

import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.RowGroups;
import io.infinilora.core.ModelSpec;
import java.lang.foreign.Arena;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;

/**
 * The operators of routed layers, behind the checks of {@link CpuOpStream}: groups rows by expert,
 * gathers, multiplies, scatters.
 */
final class ExpertOps {
  /** Runs the tasks of an operator. */
  interface Runner {
    /**
     * Returns when all are done.
     *
     * @param shapes for messages
     */
    void run(String operator, Supplier<String> shapes, int tasks, WorkerPool.Task task);
  }

  /** Elements of sums below which a task is not worth waking a worker for. */
  private static final int ELEMENTS_PER_TASK = 16_384;

  /** Logits likewise; a choice costs more than a sum. */
  private static final int LOGITS_PER_TASK = 1024;

  private final Runner runner;
  private final int threads;
  private final Scratch[] scratch;
  private final Scratch[] matrixScratch;

  /** Results of all routed rows, before they are summed. */
  private final Scratch results;

  ExpertOps(Runner runner, Scratch[] scratch, Scratch[] matrixScratch, Arena arena) {
    this.runner = runner;
    this.threads = scratch.length;
    this.scratch = scratch;
    this.matrixScratch = matrixScratch;
    this.results = new Scratch(arena);
  }

  /** Makes a choice per row of logits, then groups the rows. */
  void route(CpuTensor logits, ModelSpec.Moe moe, CpuRouting out) {
    int perTask = Math.max(1, LOGITS_PER_TASK / logits.cols());
    runner.run(
        "route",
        logits::shape,
        Math.ceilDiv(logits.rows(), perTask),
        (index, thread) -> {
          long lanes = scratch[thread].reserve(VectorMath.SUM_SCRATCH);
          int end = Math.min(logits.rows(), (index + 1) * perTask);
          for (int r = index * perTask; r < end; r++) {
            RoutingKernels.choose(
                logits.row(r), moe, out.choices(), out.weights(), r * out.topK(), lanes);
          }
        });
    out.written();
  }

  /** Copies rows, then groups them. */
  void gather(CpuRouting from, int[] rows, CpuRouting out) {
    int topK = out.topK();
    for (int i = 0; i < rows.length; i++) {
      System.arraycopy(from.choices(), rows[i] * topK, out.choices(), i * topK, topK);
      System.arraycopy(from.weights(), rows[i] * topK, out.weights(), i * topK, topK);
    }
    out.written();
  }

  void project(PackedExperts weights, CpuRouting routing, CpuTensor x, CpuTensor[] outs) {
    ExpertPlan plan = new ExpertPlan(weights, routing.groups(), threads);
    runner.run(
        "expertProject",
        () -> x.shape() + " " + weights,
        plan.tasks().size(),
        (index, thread) ->
            plan.project(index, x, routing.topK(), outs, scratch[thread], matrixScratch[thread]));
  }

  void combine(PackedExperts weights, CpuRouting routing, CpuTensor x, CpuTensor out) {
    ExpertGroups groups = routing.groups();
    ExpertPlan plan = new ExpertPlan(weights, groups, threads);
    long products = results.reserve(groups.routedRows() * out.stride());
    runner.run(
        "expertCombine",
        () -> x.shape() + " " + weights,
        plan.tasks().size(),
        (index, thread) ->
            plan.multiply(index, x, products, scratch[thread], matrixScratch[thread]));
    int[] rows = new int[out.rows()];
    Arrays.setAll(rows, i -> i);
    int[] starts = new int[out.rows() + 1];
    Arrays.setAll(starts, i -> i * routing.topK());
    Memory.zero(out.address(), out.rows() * out.stride());
    sum(new RowTerms(rows, starts, groups.places(), routing.weights()), products, out);
  }

  void loraAdd(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CpuRouting routing,
      CpuTensor x,
      CpuTensor[] outs) {
    ExpertLoraPlan plan = new ExpertLoraPlan(groups, weights, routing);
    int[] routed = plan.order();
    int[] inputs = new int[plan.routedRows()];
    Arrays.setAll(inputs, i -> routed[i] / routing.topK());
    runner.run(
        "expertLoraAdd",
        () -> x.shape() + " in " + groups.groups() + " groups",
        plan.chunks().size(),
        (index, thread) -> {
          ExpertLoraPlan.Chunk chunk = plan.chunks().get(index);
          LoraKernels.add(
              chunk.pairs(),
              x.cols(),
              inputs,
              routed,
              chunk.from(),
              chunk.to(),
              x,
              outs,
              scratch[thread],
              matrixScratch[thread]);
        });
  }

  void loraCombine(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CpuRouting routing,
      CpuTensor x,
      CpuTensor out) {
    ExpertLoraPlan plan = new ExpertLoraPlan(groups, weights, routing);
    // Each term is rounded before it is summed, as it is where others sum the terms.
    long products =
        products(
            "expertLoraCombine",
            plan,
            x,
            out.cols(),
            (product, factor, row) -> ElementKernels.scale(product, factor, out.cols()));
    sum(plan.terms(), products, out);
  }

  void loraTerms(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CpuRouting routing,
      CpuTensor x,
      CpuTensor out) {
    products(
        "expertLoraTerms",
        new ExpertLoraPlan(groups, weights, routing),
        x,
        out.cols(),
        (product, factor, row) ->
            ElementKernels.addScaled(product, factor, out.row(row), out.cols()));
  }

  /** What is done with a routed row's product. */
  private interface ProductSink {
    void accept(long product, float factor, int routedRow);
  }

  /** The products of all routed rows with weights, in the order of the plan. */
  private long products(
      String operator, ExpertLoraPlan plan, CpuTensor x, int cols, ProductSink sink) {
    long stride = 4L * cols;
    long products = results.reserve(plan.routedRows() * stride);
    runner.run(
        operator,
        () -> x.shape() + " to " + cols,
        plan.chunks().size(),
        (index, thread) -> {
          ExpertLoraPlan.Chunk chunk = plan.chunks().get(index);
          LoraPair pair = chunk.pairs()[0];
          LoraKernels.multiply(
              pair,
              x.cols(),
              plan.order(),
              chunk.from(),
              chunk.to(),
              x,
              products + chunk.from() * stride,
              scratch[thread],
              matrixScratch[thread]);
          for (int i = chunk.from(); i < chunk.to(); i++) {
            sink.accept(products + i * stride, plan.factor(i, pair), plan.order()[i]);
          }
        });
    return products;
  }

  void scatterAddTerms(CpuTensor x, int terms, int[] rows, CpuTensor y) {
    int[] starts = new int[rows.length + 1];
    Arrays.setAll(starts, i -> i * terms);
    int[] places = new int[x.rows()];
    Arrays.setAll(places, i -> i);
    float[] ones = new float[x.rows()];
    Arrays.fill(ones, 1);
    sum(new RowTerms(rows, starts, places, ones), x.address(), y);
  }

  /** Sums rows of {@code products}, which are as wide as {@code out}. */
  private void sum(RowTerms terms, long products, CpuTensor out) {
    int perTask = Math.max(1, ELEMENTS_PER_TASK / out.cols());
    int rows = terms.rows().length;
    runner.run(
        "sum of terms",
        out::shape,
        Math.ceilDiv(rows, perTask),
        (index, thread) -> {
          int end = Math.min(rows, (index + 1) * perTask);
          for (int i = index * perTask; i < end; i++) {
            terms.add(i, products, out);
          }
        });
  }
}
