package io.infinilora.backend.cuda;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.AttentionPreparation;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.Embedding;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.NormParams;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Router;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.SampleResult;
import io.infinilora.backend.SampleRow;
import io.infinilora.backend.Signal;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.core.Activation;
import io.infinilora.core.ModelSpec;
import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * Enqueues operators on one CUDA stream. Results of a row may differ in their last bits with the
 * number of rows, since few and many rows take different kernels.
 */
final class CudaOpStream implements OpStream {
  /** How long it waits before it looks whether the device is still there. */
  private static final long LOOK_NANOS = 20_000_000;

  private final CudaStream stream;
  private final CudaChecks checks;
  private final BatchUploads batches;
  private final HostResults results;
  private final ElementOps elements;
  private final RowOps rows;
  private final TransferOps transfers;
  private final RoutingOps routings;
  private final MatrixOps matrices;
  private final ExpertOps experts;
  private final AttentionOps attention;
  private final LoraOps lora;
  private final SamplingOps sampling;
  private final Kernel releaseSignal;
  private BatchLayout step;

  CudaOpStream(CudaBackend backend) {
    stream = new CudaStream(backend.device());
    checks = new CudaChecks(backend);
    batches = new BatchUploads(stream);
    elements = new ElementOps(stream, checks);
    routings = new RoutingOps(stream, checks);
    results = new HostResults(stream);
    rows = new RowOps(stream, checks, results);
    transfers = new TransferOps(stream, checks, rows, results);
    FewRows few = new FewRows(stream);
    matrices = new MatrixOps(stream, checks, few, ManyRowsMatrix.open(stream));
    experts = new ExpertOps(stream, checks, routings, few, new ManyRoutedRows(stream));
    attention = new AttentionOps(stream, checks);
    lora = new LoraOps(stream, checks);
    sampling = new SamplingOps(stream, checks, results);
    releaseSignal = backend.device().kernel("signals", "signal_release");
  }

  @Override
  public void step(BatchLayout batch, Object key, Runnable operators) {
    stream.bind();
    boolean decode = batch.isDecode() && batch.rows() > 0;
    boolean small = key != null && decode && batch.rows() <= StepBucket.MAX_ROWS;
    StepBucket bucket = small ? bucket(batch) : null;
    step = batch;
    try {
      if (bucket != null && StepRecorder.holds(bucket)) {
        stream.recorder().run(bucket, batch, key, () -> inStep(batch, operators));
      } else {
        operators.run();
      }
    } finally {
      step = null;
      batches.reset();
    }
  }

  private static StepBucket bucket(BatchLayout batch) {
    int blocks = 1;
    for (int[] table : batch.blockTables()) {
      blocks = Math.max(blocks, table.length);
    }
    return StepBucket.of(batch.rows(), blocks);
  }

  private void inStep(BatchLayout batch, Runnable operators) {
    batches.reset();
    batches.get(batch); // The first upload of the step, so that a repetition finds it.
    operators.run();
  }

  @Override
  public void embed(Embedding table, int[] tokens, Tensor out) {
    boolean uploaded = step != null && tokens == step.tokens();
    elements.embed(table, tokens, uploaded ? batches.get(step).tokens() : 0, out);
  }

  @Override
  public void rmsNorm(Tensor x, Vec weight, float eps, Tensor out) {
    elements.norm(x, ModelSpec.Norm.RMS, weight, eps, out);
  }

  @Override
  public void layerNorm(Tensor x, Vec weight, float eps, Tensor out) {
    elements.norm(x, ModelSpec.Norm.LAYER, weight, eps, out);
  }

  @Override
  public void norm(Tensor x, NormParams norm, Tensor out) {
    elements.norm(x, norm.kind(), norm.weight(), norm.eps(), out);
  }

  @Override
  public void addNorm(Tensor x, Tensor y, NormParams norm, Tensor out) {
    elements.addNorm(x, y, norm, out);
  }

  @Override
  public void clamp(Tensor x, float bound) {
    elements.clamp(x, bound);
  }

  @Override
  public void rmsNormHeads(Tensor x, Vec weight, float eps) {
    elements.rmsNormHeads(x, weight, eps);
  }

  @Override
  public void project(Projection weights, Tensor x, Tensor... outs) {
    matrices.project(weights, x, outs);
  }

  @Override
  public void add(Tensor x, Tensor y) {
    elements.add(x, y);
  }

  @Override
  public void gatedActivation(Activation activation, Tensor gate, Tensor up, Tensor out) {
    elements.gatedActivation(activation, gate, up, out);
  }

  @Override
  public void prepareAttention(
      BatchLayout batch,
      AttentionPreparation preparation,
      Tensor q,
      Tensor k,
      Tensor v,
      KvCache cache,
      int layer) {
    attention.prepare(batches.get(batch), batch, preparation, q, k, v, cache, layer);
  }

  @Override
  public void ropeAndStore(
      BatchLayout batch, RopeTable rope, Tensor q, Tensor k, Tensor v, KvCache cache, int layer) {
    prepareAttention(batch, AttentionPreparation.of(rope), q, k, v, cache, layer);
  }

  @Override
  public void attention(
      BatchLayout batch, Tensor q, KvCache cache, int layer, AttentionParams params, Tensor out) {
    attention.attention(batches.get(batch), batch, q, cache, layer, params, out);
  }

  @Override
  public void attend(
      BatchLayout batch,
      AttentionPreparation preparation,
      Tensor q,
      Tensor k,
      Tensor v,
      KvCache cache,
      int layer,
      AttentionParams params,
      Tensor out) {
    attention.attend(batches.get(batch), batch, preparation, q, k, v, cache, layer, params, out);
  }

  @Override
  public void route(Tensor logits, ModelSpec.Moe moe, Routing out) {
    routings.route(logits, moe, out, rowCount());
  }

  @Override
  public void route(Router router, Tensor x, Tensor logits, Routing out) {
    if (!routings.route(router, x, out, rowCount())) {
      OpStream.super.route(router, x, logits, out);
    }
  }

  @Override
  public void addNormRoute(
      Tensor x,
      Tensor y,
      NormParams norm,
      Tensor out,
      Router router,
      Tensor logits,
      Routing routing) {
    if (!AddedNorm.fits(norm, y)
        || !routings.addNormRoute(
            AddedNorm.of(checks, x, y, norm, out), router, routing, rowCount())) {
      OpStream.super.addNormRoute(x, y, norm, out, router, logits, routing);
    }
  }

  /** Where the number of rows that are not padding is on the device; 0 if all are real. */
  private long rowCount() {
    boolean padded = step != null && stream.recorder().active();
    return padded ? batches.get(step).rowCount() : 0;
  }

  @Override
  public void gatherRouting(Routing from, int[] which, Routing out) {
    rows.gatherRouting(from, which, out);
  }

  @Override
  public void expertProject(ExpertProjection weights, Routing routing, Tensor x, Tensor... outs) {
    experts.expertProject(weights, routing, x, outs);
  }

  @Override
  public void expertCombine(ExpertProjection weights, Routing routing, Tensor x, Tensor out) {
    experts.expertCombine(weights, routing, x, out);
  }

  @Override
  public void expertCombine(
      Activation activation,
      ExpertProjection weights,
      Routing routing,
      Tensor gate,
      Tensor up,
      Tensor out) {
    if (!experts.expertCombine(activation, weights, routing, gate, up, out)) {
      OpStream.super.expertCombine(activation, weights, routing, gate, up, out);
    }
  }

  @Override
  public void expertCombineAddNorm(
      Activation activation,
      Tensor gate,
      Tensor up,
      ExpertProjection weights,
      Routing routing,
      Tensor sum,
      Tensor y,
      NormParams norm,
      Tensor out) {
    if (AddedNorm.fits(norm, y) && experts.combinesWithNorm(weights, y.rows(), routing.topK())) {
      AddedNorm after = AddedNorm.of(checks, sum, y, norm, out);
      if (!experts.expertCombineAddNorm(activation, weights, routing, gate, up, after)) {
        elements.gatedActivation(activation, gate, up, gate);
        experts.expertCombineAddNorm(weights, routing, gate, after);
      }
    } else {
      OpStream.super.expertCombineAddNorm(
          activation, gate, up, weights, routing, sum, y, norm, out);
    }
  }

  @Override
  public void gather(Tensor x, int[] which, Tensor out) {
    boolean uploaded = step != null && which == step.logitRows();
    rows.gather(x, which, uploaded ? batches.get(step).logitRows() : 0, out);
  }

  @Override
  public void scatterAdd(Tensor x, int[] which, Tensor y) {
    rows.scatterAdd(x, which, y);
  }

  @Override
  public void scatterAddTerms(Tensor x, int terms, int[] which, Tensor y) {
    rows.scatterAddTerms(x, terms, which, y);
  }

  @Override
  public void packRows(Tensor x, int[] which, MemorySegment out) {
    transfers.packRows(x, which, out);
  }

  @Override
  public void unpackRows(MemorySegment x, Tensor out) {
    transfers.unpackRows(x, out);
  }

  @Override
  public void addRows(MemorySegment x, int[] which, Tensor y) {
    transfers.addRows(x, which, y);
  }

  @Override
  public void packRouting(Routing from, int[] which, MemorySegment out) {
    transfers.packRouting(from, which, out);
  }

  @Override
  public void unpackRouting(MemorySegment from, Routing out) {
    transfers.unpackRouting(from, out);
  }

  @Override
  public boolean await(Signal signal, long value, long deadlineNanos) {
    while (true) {
      long now = System.nanoTime();
      long left = deadlineNanos - now;
      if (signal.await(value, now + Math.min(left, LOOK_NANOS))) {
        return true;
      }
      // Kernels of a lost device raise nothing.
      CudaException lost = stream.device().look();
      if (lost != null) {
        throw lost;
      }
      if (left <= LOOK_NANOS || Thread.currentThread().isInterrupted()) {
        return false;
      }
    }
  }

  @Override
  public void zero(Tensor x) {
    elements.zero(x);
  }

  @Override
  public void loraAdd(RowGroups groups, List<LoraWeights> weights, Tensor x, Tensor... outs) {
    lora.loraAdd(groups, weights, x, outs);
  }

  @Override
  public void expertLoraAdd(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      Routing routing,
      Tensor x,
      Tensor... outs) {
    lora.expertLoraAdd(groups, weights, routing, x, outs);
  }

  @Override
  public void expertLoraCombine(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out) {
    lora.expertLoraCombine(groups, weights, routing, x, out);
  }

  @Override
  public void expertLoraTerms(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out) {
    lora.expertLoraTerms(groups, weights, routing, x, out);
  }

  @Override
  public List<SampleResult> sample(Tensor logits, List<SampleRow> samples) {
    return sampling.sample(logits, samples);
  }

  @Override
  public void read(Tensor x, int row, float[] into) {
    rows.read(x, row, into);
  }

  @Override
  public void release(Signal signal, long value) {
    if (!(signal instanceof CudaSignal counter)) {
      throw new IllegalArgumentException("the signal belongs to another backend");
    }
    checks.owned(counter.owner(), "the signal");
    stream.launch(releaseSignal).pointer(counter.address()).int64(value).grid(1).block(1).go();
  }

  @Override
  public void synchronize() {
    stream.device().makeCurrent();
    stream.synchronize();
  }

  @Override
  public void close() {
    stream
        .device()
        .release(
            () -> {
              stream.synchronize();
              matrices.close();
              transfers.close();
              results.close();
              batches.close();
            });
    stream.close();
  }
}
