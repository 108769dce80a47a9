package io.infinilora.backend.cpu;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.Embedding;
import io.infinilora.backend.ExpertLoraWeights;
import io.infinilora.backend.ExpertProjection;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.LoraWeights;
import io.infinilora.backend.OperatorChecks;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Routing;
import io.infinilora.backend.RowGroups;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.core.ModelSpec;
import java.util.List;

/** Checks of what belongs to this backend. */
final class Checks extends OperatorChecks {
  private final CpuBackend backend;

  Checks(CpuBackend backend) {
    this.backend = backend;
  }

  CpuTensor tensor(Tensor tensor, String what) {
    if (!(tensor instanceof CpuTensor t) || t.owner() != backend) {
      throw new IllegalArgumentException(what + " belongs to another backend");
    }
    backend.checkOpen();
    return t;
  }

  CpuTensor tensor(Tensor tensor, int rows, int cols, String what) {
    CpuTensor t = tensor(tensor, what);
    if (t.rows() != rows || t.cols() != cols) {
      throw new IllegalArgumentException(
          what + " is " + t.shape() + ", but should be [" + rows + ", " + cols + "]");
    }
    return t;
  }

  CpuVec vec(Vec vec, String what) {
    if (!(vec instanceof CpuVec v) || v.owner() != backend) {
      throw new IllegalArgumentException(what + " belongs to another backend");
    }
    return v;
  }

  CpuVec vec(Vec vec, int size, String what) {
    CpuVec v = vec(vec, what);
    if (v.size() != size) {
      throw new IllegalArgumentException(
          what + " has " + v.size() + " elements, but should have " + size);
    }
    return v;
  }

  MappedEmbedding embedding(Embedding table) {
    if (!(table instanceof MappedEmbedding e) || e.owner() != backend) {
      throw new IllegalArgumentException("embedding belongs to another backend");
    }
    return e;
  }

  PackedProjection projection(Projection projection) {
    if (!(projection instanceof PackedProjection p) || p.owner() != backend) {
      throw new IllegalArgumentException("projection belongs to another backend");
    }
    return p;
  }

  CpuRopeTable rope(RopeTable table, int headDim) {
    if (!(table instanceof CpuRopeTable r) || r.owner() != backend) {
      throw new IllegalArgumentException("rope table belongs to another backend");
    }
    that(
        r.headDim() == headDim,
        () -> "rope table for heads of " + r.headDim() + ", cache for " + headDim);
    return r;
  }

  CpuKvCache cache(KvCache cache, int layer) {
    if (!(cache instanceof CpuKvCache c) || c.owner() != backend) {
      throw new IllegalArgumentException("KV cache belongs to another backend");
    }
    that(layer >= 0 && layer < c.layout().layers(), () -> "layer " + layer + " of " + c.layout());
    return c;
  }

  /** That rows of a sequence are consecutive positions with blocks of the cache. */
  void batch(BatchLayout batch, CpuKvCache cache) {
    int[] starts = batch.rowStart();
    int[] positions = batch.positions();
    that(
        positions.length == batch.rows()
            && starts.length == batch.sequences() + 1
            && starts[0] == 0
            && starts[batch.sequences()] == batch.rows(),
        () -> "the batch's arrays do not fit together");
    for (int s = 0; s < batch.sequences(); s++) {
      int sequence = s;
      int from = starts[s];
      int to = starts[s + 1];
      that(from <= to, () -> "sequence " + sequence + " has rows " + from + " to " + to);
      if (from == to) {
        continue;
      }
      that(positions[from] >= 0, () -> "sequence " + sequence + " has a negative position");
      for (int r = from + 1; r < to; r++) {
        int row = r;
        that(
            positions[r] == positions[r - 1] + 1,
            () -> "row " + row + " is at position " + positions[row] + ", not the next");
      }
      int[] blocks = batch.blockTables()[s];
      int needed = positions[to - 1] / cache.blockSize() + 1;
      that(
          blocks.length >= needed,
          () ->
              "sequence %d needs %d blocks, but has %d".formatted(sequence, needed, blocks.length));
      for (int b = 0; b < needed; b++) {
        int block = blocks[b];
        that(
            block >= 0 && block < cache.blocks(), () -> "block " + block + " of " + cache.blocks());
      }
    }
  }

  void attention(AttentionParams params, CpuKvCache cache) {
    that(
        params.kvHeads() == cache.layout().kvHeads()
            && params.headDim() == cache.layout().headDim()
            && params.heads() > 0
            && params.heads() % params.kvHeads() == 0
            && params.window() >= 0,
        () -> params + " does not fit " + cache.layout());
  }

  void lora(RowGroups groups, List<LoraWeights> weights, CpuTensor x, CpuTensor[] outs) {
    groups(groups, weights.size(), x.rows());
    for (int g = 0; g < groups.groups(); g++) {
      int group = g;
      if (weights.get(g) == null) {
        continue;
      }
      if (!(weights.get(g) instanceof CpuLoraWeights w) || w.owner() != backend || !w.alive()) {
        throw unusable(g);
      }
      LoraPair[] pairs = w.pairs();
      that(
          pairs.length == outs.length,
          () -> pairs.length + " targets for " + outs.length + " outputs");
      for (int t = 0; t < outs.length; t++) {
        if (pairs[t].rank() > 0) {
          int target = t;
          that(
              w.in() == x.cols()
                  && outs[t] != null
                  && outs[t].rows() == x.rows()
                  && outs[t].cols() == pairs[t].out(),
              () -> "target " + target + " of group " + group + " does not fit x or its output");
        }
      }
    }
  }

  CpuRouting routing(Routing routing, String what) {
    if (!(routing instanceof CpuRouting r) || r.owner() != backend) {
      throw new IllegalArgumentException(what + " belongs to another backend");
    }
    return r;
  }

  /** That a choice among {@code moe}'s experts fits its logits and where it goes. */
  void moe(ModelSpec.Moe moe, CpuTensor logits, CpuRouting out) {
    that(
        moe.topK() == out.topK()
            && moe.experts() == out.experts()
            && moe.experts() == logits.cols()
            && logits.rows() == out.rows(),
        () -> "route %s by %s to %s".formatted(logits.shape(), moe, out.shape()));
  }

  PackedExperts experts(ExpertProjection weights, CpuRouting routing, CpuTensor x, int xRows) {
    if (!(weights instanceof PackedExperts p) || p.owner() != backend) {
      throw new IllegalArgumentException("experts belong to another backend");
    }
    that(
        p.experts() == routing.experts() && x.cols() == p.in() && x.rows() == xRows,
        () -> "%s by %s with weights [%s]".formatted(x.shape(), routing.shape(), p));
    return p;
  }

  /**
   * That routed adapters fit.
   *
   * @param xRows rows that x should have
   * @param outRows rows that the outputs should have
   */
  void expertLora(
      RowGroups groups,
      List<ExpertLoraWeights> weights,
      CpuRouting routing,
      CpuTensor x,
      int xRows,
      CpuTensor[] outs,
      int outRows) {
    groups(groups, weights.size(), routing.rows());
    that(x.rows() == xRows, () -> "x " + x.shape() + " for routing " + routing.shape());
    for (int g = 0; g < groups.groups(); g++) {
      int group = g;
      if (weights.get(g) == null) {
        continue;
      }
      if (!(weights.get(g) instanceof CpuExpertLoraWeights w)
          || w.owner() != backend
          || !w.alive()) {
        throw unusable(g);
      }
      that(
          w.experts() == routing.experts() && w.targets() == outs.length && w.in() == x.cols(),
          () ->
              "group %d has %d experts, %d targets, in %d for x %s, routing %s, %d outputs"
                  .formatted(
                      group,
                      w.experts(),
                      w.targets(),
                      w.in(),
                      x.shape(),
                      routing.shape(),
                      outs.length));
      for (int t = 0; t < outs.length; t++) {
        int target = t;
        that(
            w.out(t) == 0
                || (outs[t] != null
                    && outs[t].rows() == outRows
                    && outs[t].cols() == w.out(t)
                    && outs[t].address() != x.address()),
            () -> "target " + target + " of group " + group + " does not fit its output");
      }
    }
  }
}
