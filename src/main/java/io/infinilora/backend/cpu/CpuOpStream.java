package io.infinilora.backend.cpu;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.Embedding;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.SampleResult;
import io.infinilora.backend.SampleRow;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.backend.decode.RowDecoder;
import io.infinilora.core.Activation;
import io.infinilora.core.ErrorCode;
import io.infinilora.core.InfiniLoraException;
import io.infinilora.core.ModelSpec;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;
import java.util.List;
import java.util.function.Supplier;

/**
 * The checked facade over the kernels: checks shapes, splits an operator into tasks and runs them.
 * Operators run at once and are complete when the call returns.
 */
final class CpuOpStream implements OpStream {
  /** Elements below which an element-wise operator is not worth waking a worker for. */
  private static final int ELEMENTS_PER_TASK = 16_384;

  /** Query vectors (rows times heads of a group) of an attention task. */
  private static final int ATTENTION_TILE = 24;

  /** Most scores of an attention task, bounding its scratch memory to 1 MiB. */
  private static final int ATTENTION_SCORES = 262_144;

  private final Checks checks;
  private final WorkerPool pool;
  private final Arena arena = Arena.ofShared();
  private final Scratch[] scratch;
  private final Scratch[] matrixScratch;
  private final ExpertOps experts;
  private final TransferOps transfers;

  CpuOpStream(CpuBackend backend, String name, int threads) {
    this.checks = new Checks(backend);
    this.pool = new WorkerPool(name, threads);
    this.scratch = new Scratch[threads];
    this.matrixScratch = new Scratch[threads];
    for (int i = 0; i < threads; i++) {
      scratch[i] = new Scratch(arena);
      matrixScratch[i] = new Scratch(arena);
    }
    experts = new ExpertOps(this::run, scratch, matrixScratch, arena);
    transfers = new TransferOps((operator, x, tasks, task) -> run(operator, x::shape, tasks, task));
  }

  private void run(String operator, Supplier<String> shapes, int tasks, WorkerPool.Task task) {
    try {
      pool.run(tasks, task);
    } catch (InfiniLoraException e) {
      throw e;
    } catch (RuntimeException e) {
      throw new InfiniLoraException(
          ErrorCode.INTERNAL, operator + " " + shapes.get() + " failed: " + e, e);
    }
  }

  /** Runs {@code body} over ranges of rows with enough work each. */
  private void overRows(String operator, CpuTensor x, RowRange body) {
    int perTask = Math.max(1, ELEMENTS_PER_TASK / x.cols());
    run(
        operator,
        x::shape,
        Math.ceilDiv(x.rows(), perTask),
        (index, thread) ->
            body.run(index * perTask, Math.min(x.rows(), (index + 1) * perTask), scratch[thread]));
  }

  private interface RowRange {
    void run(int from, int to, Scratch scratch);
  }

  @Override
  public void embed(Embedding table, int[] tokens, Tensor out) {
    MappedEmbedding source = checks.embedding(table);
    CpuTensor to = checks.tensor(out, tokens.length, source.hidden(), "embed out");
    checks.indices(tokens, source.vocab(), "token");
    overRows(
        "embed",
        to,
        (from, end, s) -> {
          RowDecoder decoder = new RowDecoder(source.table());
          for (int r = from; r < end; r++) {
            decoder.decode(tokens[r], to.row(r));
          }
        });
  }

  @Override
  public void rmsNorm(Tensor x, Vec weight, float eps, Tensor out) {
    CpuTensor from = checks.tensor(x, "rmsNorm x");
    CpuVec w = checks.vec(weight, from.cols(), "rmsNorm weight");
    CpuTensor to = checks.tensor(out, from.rows(), from.cols(), "rmsNorm out");
    overRows(
        "rmsNorm",
        from,
        (first, end, s) -> {
          long lanes = s.reserve(Memory.VECTOR_BYTES);
          for (int r = first; r < end; r++) {
            ElementKernels.rmsNorm(from.row(r), w.address(), from.cols(), eps, to.row(r), lanes);
          }
        });
  }

  @Override
  public void layerNorm(Tensor x, Vec weight, float eps, Tensor out) {
    CpuTensor from = checks.tensor(x, "layerNorm x");
    CpuVec w = checks.vec(weight, from.cols(), "layerNorm weight");
    CpuTensor to = checks.tensor(out, from.rows(), from.cols(), "layerNorm out");
    overRows(
        "layerNorm",
        from,
        (first, end, s) -> {
          long lanes = s.reserve(Memory.VECTOR_BYTES);
          for (int r = first; r < end; r++) {
            ElementKernels.layerNorm(from.row(r), w.address(), from.cols(), eps, to.row(r), lanes);
          }
        });
  }

  @Override
  public void clamp(Tensor x, float bound) {
    CpuTensor t = checks.tensor(x, "clamp x");
    checks.that(bound >= 0, () -> "clamp to " + bound);
    overRows(
        "clamp",
        t,
        (first, end, s) ->
            ElementKernels.clamp(t.row(first), bound, (long) (end - first) * t.cols()));
  }

  @Override
  public void rmsNormHeads(Tensor x, Vec weight, float eps) {
    CpuTensor t = checks.tensor(x, "rmsNormHeads x");
    CpuVec w = checks.vec(weight, "rmsNormHeads weight");
    checks.that(
        t.cols() % w.size() == 0, () -> "heads of " + w.size() + " do not divide " + t.shape());
    long headBytes = 4L * w.size();
    overRows(
        "rmsNormHeads",
        t,
        (first, end, s) -> {
          long lanes = s.reserve(Memory.VECTOR_BYTES);
          for (long head = t.row(first); head < t.row(end); head += headBytes) {
            ElementKernels.rmsNorm(head, w.address(), w.size(), eps, head, lanes);
          }
        });
  }

  @Override
  public void project(Projection weights, Tensor x, Tensor... outs) {
    PackedProjection p = checks.projection(weights);
    CpuTensor in = checks.tensor(x, "project x");
    checks.that(
        in.cols() == p.in() && outs.length == p.outputs(),
        () ->
            "project %s to %d outputs with weights [%d outputs, in %d]"
                .formatted(in.shape(), outs.length, p.outputs(), p.in()));
    CpuTensor[] to = new CpuTensor[outs.length];
    for (int i = 0; i < outs.length; i++) {
      to[i] = checks.tensor(outs[i], in.rows(), p.out(i), "project out");
      checks.that(to[i].address() != in.address(), () -> "project in place");
    }
    new ProjectPlan(p, in, to, pool.threads())
        .run(
            (tasks, task) -> run("project", () -> in.shape() + " " + p, tasks, task),
            matrixScratch);
  }

  @Override
  public void add(Tensor x, Tensor y) {
    CpuTensor from = checks.tensor(x, "add x");
    CpuTensor to = checks.tensor(y, from.rows(), from.cols(), "add y");
    overRows(
        "add",
        from,
        (first, end, s) ->
            ElementKernels.addScaled(
                from.row(first), 1, to.row(first), (long) (end - first) * from.cols()));
  }

  @Override
  public void gatedActivation(Activation activation, Tensor gate, Tensor up, Tensor out) {
    CpuTensor g = checks.tensor(gate, "gatedActivation gate");
    CpuTensor u = checks.tensor(up, g.rows(), g.cols(), "gatedActivation up");
    CpuTensor to = checks.tensor(out, g.rows(), g.cols(), "gatedActivation out");
    overRows(
        "gatedActivation",
        g,
        (first, end, s) ->
            ElementKernels.gated(
                activation,
                g.row(first),
                u.row(first),
                to.row(first),
                (long) (end - first) * g.cols(),
                s.reserve(ElementKernels.GATED_SCRATCH)));
  }

  @Override
  public void ropeAndStore(
      BatchLayout batch, RopeTable rope, Tensor q, Tensor k, Tensor v, KvCache cache, int layer) {
    CpuKvCache kv = checks.cache(cache, layer);
    CpuRopeTable table = checks.rope(rope, kv.layout().headDim());
    int headDim = kv.layout().headDim();
    int kvHeads = kv.layout().kvHeads();
    CpuTensor queries = checks.tensor(q, "ropeAndStore q");
    CpuTensor keys = checks.tensor(k, batch.rows(), kvHeads * headDim, "ropeAndStore k");
    CpuTensor values = checks.tensor(v, batch.rows(), kvHeads * headDim, "ropeAndStore v");
    checks.that(
        queries.rows() == batch.rows() && queries.cols() % headDim == 0,
        () -> "q " + queries.shape() + " for " + batch.rows() + " rows, heads of " + headDim);
    checks.batch(batch, kv);
    int[] sequences = sequenceOfRow(batch);
    overRows(
        "ropeAndStore",
        queries,
        (first, end, s) -> {
          for (int r = first; r < end; r++) {
            int position = batch.positions()[r];
            long angles = table.angles(position);
            rotateRow(queries, r, headDim, angles);
            rotateRow(keys, r, headDim, angles);
            int block = batch.blockTables()[sequences[r]][position / kv.blockSize()];
            for (int h = 0; h < kvHeads; h++) {
              long offset = 4L * h * headDim;
              AttentionKernels.write(
                  kv,
                  layer,
                  block,
                  h,
                  position % kv.blockSize(),
                  keys.row(r) + offset,
                  values.row(r) + offset);
            }
          }
        });
  }

  private static void rotateRow(CpuTensor x, int row, int headDim, long angles) {
    for (int e = 0; e < x.cols(); e += headDim) {
      ElementKernels.rotate(x.row(row) + 4L * e, headDim / 2, angles);
    }
  }

  private static int[] sequenceOfRow(BatchLayout batch) {
    int[] sequences = new int[batch.rows()];
    for (int s = 0; s < batch.sequences(); s++) {
      Arrays.fill(sequences, batch.rowStart()[s], batch.rowStart()[s + 1], s);
    }
    return sequences;
  }

  @Override
  public void attention(
      BatchLayout batch, Tensor q, KvCache cache, int layer, AttentionParams params, Tensor out) {
    CpuKvCache kv = checks.cache(cache, layer);
    checks.attention(params, kv);
    int width = params.heads() * params.headDim();
    CpuTensor queries = checks.tensor(q, batch.rows(), width, "attention q");
    CpuTensor to = checks.tensor(out, batch.rows(), width, "attention out");
    checks.batch(batch, kv);
    long sinks =
        params.sinks() == null
            ? 0
            : checks.vec(params.sinks(), params.heads(), "attention sinks").address();
    int group = params.heads() / params.kvHeads();
    int[] tiles = new int[2 * batch.rows()];
    int n = 0;
    for (int s = 0; s < batch.sequences(); s++) {
      int end = batch.rowStart()[s + 1];
      int row = batch.rowStart()[s];
      while (row < end) {
        int byScores = ATTENTION_SCORES / ((batch.positions()[end - 1] + 1) * group);
        int rows = Math.max(1, Math.min(ATTENTION_TILE / group, byScores));
        tiles[2 * n] = row;
        tiles[2 * n + 1] = s;
        n++;
        row = Math.min(end, row + rows);
      }
    }
    int count = n;
    run(
        "attention",
        () -> queries.shape() + " " + params,
        count * params.kvHeads(),
        (index, thread) -> {
          // The longest rows first: they are at the end of a chunk.
          int tile = count - 1 - index / params.kvHeads();
          int row = tiles[2 * tile];
          int s = tiles[2 * tile + 1];
          int end = batch.rowStart()[s + 1];
          if (tile + 1 < count) {
            end = Math.min(end, tiles[2 * tile + 2]);
          }
          AttentionKernels.attend(
              params,
              kv,
              layer,
              index % params.kvHeads(),
              batch.blockTables()[s],
              batch.positions()[row],
              end - row,
              queries.row(row),
              to.row(row),
              queries.stride(),
              sinks,
              scratch[thread]);
        });
  }

  @Override
  public void route(Tensor logits, ModelSpec.Moe moe, Routing out) {
    CpuTensor from = checks.tensor(logits, "route logits");
    CpuRouting to = checks.routing(out, "route out");
    checks.moe(moe, from, to);
    experts.route(from, moe, to);
  }

  @Override
  public void gatherRouting(Routing from, int[] rows, Routing out) {
    CpuRouting source = checks.routing(from, "gatherRouting from");
    CpuRouting to = checks.routing(out, "gatherRouting out");
    checks.that(
        source.topK() == to.topK()
            && source.experts() == to.experts()
            && to.rows() == rows.length
            && !source.shares(to),
        () ->
            "gatherRouting %d rows of %s to %s".formatted(rows.length, source.shape(), to.shape()));
    checks.indices(rows, source.rows(), "row");
    experts.gather(source, rows, to);
  }

  @Override
  public void expertProject(ExpertProjection weights, Routing routing, Tensor x, Tensor... outs) {
    CpuRouting r = checks.routing(routing, "expertProject routing");
    CpuTensor in = checks.tensor(x, "expertProject x");
    PackedExperts p = checks.experts(weights, r, in, r.rows());
    checks.that(
        outs.length == p.outputs(),
        () -> outs.length + " outputs for experts of " + p.outputs() + " outputs");
    CpuTensor[] to = new CpuTensor[outs.length];
    for (int i = 0; i < outs.length; i++) {
      to[i] = checks.tensor(outs[i], r.rows() * r.topK(), p.out(i), "expertProject out");
      checks.that(to[i].address() != in.address(), () -> "expertProject in place");
    }
    experts.project(p, r, in, to);
  }

  @Override
  public void expertCombine(ExpertProjection weights, Routing routing, Tensor x, Tensor out) {
    CpuRouting r = checks.routing(routing, "expertCombine routing");
    CpuTensor in = checks.tensor(x, "expertCombine x");
    PackedExperts p = checks.experts(weights, r, in, r.rows() * r.topK());
    checks.that(p.outputs() == 1, () -> "expertCombine with " + p.outputs() + " outputs");
    CpuTensor to = checks.tensor(out, r.rows(), p.out(0), "expertCombine out");
    checks.that(to.address() != in.address(), () -> "expertCombine in place");
    experts.combine(p, r, in, to);
  }

  @Override
  public void gather(Tensor x, int[] rows, Tensor out) {
    CpuTensor from = checks.tensor(x, "gather x");
    CpuTensor to = checks.tensor(out, rows.length, from.cols(), "gather out");
    checks.indices(rows, from.rows(), "row");
    for (int i = 0; i < rows.length; i++) {
      Memory.copy(from.row(rows[i]), to.row(i), from.stride());
    }
  }

  @Override
  public void scatterAdd(Tensor x, int[] rows, Tensor y) {
    CpuTensor to = checks.tensor(y, "scatterAdd y");
    CpuTensor from = checks.tensor(x, rows.length, to.cols(), "scatterAdd x");
    checks.indices(rows, to.rows(), "row");
    for (int i = 0; i < rows.length; i++) {
      ElementKernels.addScaled(from.row(i), 1, to.row(rows[i]), to.cols());
    }
  }

  @Override
  public void packRows(Tensor x, int[] rows, MemorySegment out) {
    CpuTensor from = checks.tensor(x, "packRows x");
    checks.indices(rows, from.rows(), "row");
    checks.memory(out, rowBytes(rows.length, from), "packRows out");
    transfers.pack(from, rows, out);
  }

  @Override
  public void unpackRows(MemorySegment x, Tensor out) {
    CpuTensor to = checks.tensor(out, "unpackRows out");
    checks.memory(x, rowBytes(to.rows(), to), "unpackRows x");
    transfers.unpack(x, to);
  }

  @Override
  public void addRows(MemorySegment x, int[] rows, Tensor y) {
    CpuTensor to = checks.tensor(y, "addRows y");
    checks.indices(rows, to.rows(), "row");
    checks.memory(x, rowBytes(rows.length, to), "addRows x");
    transfers.add(x, rows, to);
  }

  private static long rowBytes(int rows, CpuTensor shape) {
    return (long) TransferOps.ROW_ELEMENT_BYTES * rows * shape.cols();
  }

  @Override
  public void packRouting(Routing from, int[] rows, MemorySegment out) {
    CpuRouting source = checks.routing(from, "packRouting from");
    checks.indices(rows, source.rows(), "row");
    checks.memory(out, routingBytes(rows.length, source), "packRouting out");
    transfers.packRouting(source, rows, out);
  }

  @Override
  public void unpackRouting(MemorySegment from, Routing out) {
    CpuRouting to = checks.routing(out, "unpackRouting out");
    checks.memory(from, routingBytes(to.rows(), to), "unpackRouting from");
    transfers.unpackRouting(from, to);
  }

  private static long routingBytes(int rows, CpuRouting shape) {
    return (long) TransferOps.CHOICE_BYTES * rows * shape.topK();
  }

  @Override
  public void zero(Tensor x) {
    CpuTensor t = checks.tensor(x, "zero x");
    Memory.zero(t.address(), t.rows() * t.stride());
  }

  @Override
  public void loraAdd(RowGroups groups, List<LoraWeights> weights, Tensor x, Tensor... outs) {
    CpuTensor in = checks.tensor(x, "loraAdd x");
    CpuTensor[] to = new CpuTensor[outs.length];
    for (int t = 0; t < outs.length; t++) {
      to[t] = outs[t] == null ? null : checks.tensor(outs[t], "loraAdd out");
    }
    checks.lora(groups, weights, in, to);
    int[] starts = groups.starts();
    int[] chunks = new int[2 * (groups.rows().length + 1)];
    int n = 0;
    for (int g = 0; g < groups.groups(); g++) {
      if (weights.get(g) == null) {
        continue;
      }
      for (int row = starts[g]; row < starts[g + 1]; row += LoraKernels.MAX_ROWS) {
        chunks[2 * n] = g;
        chunks[2 * n + 1] = row;
        n++;
      }
    }
    run(
        "loraAdd",
        () -> in.shape() + " in " + groups.groups() + " groups",
        n,
        (index, thread) -> {
          int g = chunks[2 * index];
          int row = chunks[2 * index + 1];
          CpuLoraWeights w = (CpuLoraWeights) weights.get(g);
          LoraKernels.add(
              w.pairs(),
              w.in(),
              groups.rows(),
              groups.rows(),
              row,
              Math.min(starts[g + 1], row + LoraKernels.MAX_ROWS),
              in,
              to,
              scratch[thread],
              matrixScratch[thread]);
        });
  }

  @Override
  public void expertLoraAdd(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      Routing routing,
      Tensor x,
      Tensor... outs) {
    CpuRouting r = checks.routing(routing, "expertLoraAdd routing");
    CpuTensor in = checks.tensor(x, "expertLoraAdd x");
    CpuTensor[] to = new CpuTensor[outs.length];
    for (int t = 0; t < outs.length; t++) {
      to[t] = outs[t] == null ? null : checks.tensor(outs[t], "expertLoraAdd out");
    }
    checks.expertLora(groups, weights, r, in, r.rows(), to, r.rows() * r.topK());
    experts.loraAdd(groups, weights, r, in, to);
  }

  @Override
  public void expertLoraCombine(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out) {
    CpuRouting r = checks.routing(routing, "expertLoraCombine routing");
    CpuTensor in = checks.tensor(x, "expertLoraCombine x");
    CpuTensor to = checks.tensor(out, "expertLoraCombine out");
    checks.expertLora(groups, weights, r, in, r.rows() * r.topK(), new CpuTensor[] {to}, r.rows());
    experts.loraCombine(groups, weights, r, in, to);
  }

  @Override
  public void expertLoraTerms(
      RowGroups groups, List<ExpertLoraWeights> weights, Routing routing, Tensor x, Tensor out) {
    CpuRouting r = checks.routing(routing, "expertLoraTerms routing");
    CpuTensor in = checks.tensor(x, "expertLoraTerms x");
    CpuTensor to = checks.tensor(out, "expertLoraTerms out");
    int routed = r.rows() * r.topK();
    checks.expertLora(groups, weights, r, in, routed, new CpuTensor[] {to}, routed);
    experts.loraTerms(groups, weights, r, in, to);
  }

  @Override
  public void scatterAddTerms(Tensor x, int terms, int[] rows, Tensor y) {
    CpuTensor to = checks.tensor(y, "scatterAddTerms y");
    checks.that(terms > 0, () -> "scatterAddTerms of " + terms + " terms");
    CpuTensor from = checks.tensor(x, rows.length * terms, to.cols(), "scatterAddTerms x");
    checks.that(from.address() != to.address(), () -> "scatterAddTerms in place");
    checks.indices(rows, to.rows(), "row");
    experts.scatterAddTerms(from, terms, rows, to);
  }

  @Override
  public List<SampleResult> sample(Tensor logits, List<SampleRow> rows) {
    CpuTensor t = checks.tensor(logits, "sample logits");
    checks.that(t.rows() == rows.size(), () -> rows.size() + " rows to sample of " + t.shape());
    SampleResult[] results = new SampleResult[rows.size()];
    run(
        "sample",
        t::shape,
        results.length,
        (index, thread) ->
            results[index] =
                new Sampler(t.row(index), t.cols(), scratch[thread])
                    .sample(rows.get(index), index));
    return List.of(results);
  }

  @Override
  public void read(Tensor x, int row, float[] into) {
    CpuTensor t = checks.tensor(x, "read x");
    checks.that(
        row >= 0 && row < t.rows() && into.length >= t.cols(),
        () -> "read row " + row + " of " + t.shape() + " into " + into.length);
    for (int c = 0; c < t.cols(); c++) {
      into[c] = Memory.get(t.row(row) + 4L * c);
    }
  }

  /** Nothing to wait for: operators are complete when they return. */
  @Override
  public void synchronize() {}

  @Override
  public void close() {
    pool.close();
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
