package io.infinilora.model;

import io.infinilora.backend.AttentionParams;
import io.infinilora.backend.AttentionPreparation;
import io.infinilora.backend.BatchLayout;
import io.infinilora.backend.Embedding;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.NormParams;
import io.infinilora.backend.OpStream;
import io.infinilora.backend.Projection;
import io.infinilora.backend.RopeTable;
import io.infinilora.backend.Tensor;
import io.infinilora.backend.Vec;
import io.infinilora.core.LoraSite;
import io.infinilora.core.ModelSpec;
import java.util.List;
import java.util.Objects;

/**
 * A decoder-only transformer over the operator interface: pre-normalised attention and feed-forward
 * blocks with rotary positions and paged keys and values. Immutable; any number of streams may run
 * it, each with its own {@link Workspace}.
 */
public final class Transformer {
  private final ModelSpec spec;
  private final Embedding embedding;
  private final List<Layer> layers;

  /** Of each layer. */
  private final List<AttentionPreparation> preparations;

  private final NormParams finalNorm;
  private final Projection head;

  /**
   * One decoder layer.
   *
   * @param qNorm null unless q and k are normalised per head
   * @param kNorm likewise
   */
  record Layer(
      NormParams attentionNorm,
      Projection qkv,
      Vec qNorm,
      Vec kNorm,
      AttentionParams attention,
      Projection output,
      NormParams mlpNorm,
      MlpBlock mlp) {}

  Transformer(
      ModelSpec spec,
      Embedding embedding,
      RopeTable rope,
      List<Layer> layers,
      NormParams finalNorm,
      Projection head) {
    this.spec = Objects.requireNonNull(spec);
    this.embedding = embedding;
    this.layers = List.copyOf(layers);
    float bound = spec.attention().clipQkv();
    float eps = (float) spec.normEps();
    preparations =
        layers.stream()
            .map(l -> new AttentionPreparation(rope, bound, l.qNorm(), l.kNorm(), eps))
            .toList();
    this.finalNorm = finalNorm;
    this.head = head;
  }

  /** What the model is. */
  public ModelSpec spec() {
    return spec;
  }

  /** Bytes of weights that a decode step of one row reads. */
  public long bytesPerStep() {
    long bytes = head.bytes();
    for (Layer layer : layers) {
      bytes += layer.qkv().bytes() + layer.output().bytes() + layer.mlp().bytesPerRow();
    }
    return bytes;
  }

  /**
   * Runs one step through all layers: writes the rows' keys and values into the cache.
   *
   * @return the residual stream after the last layer, {@code [rows, hidden]}; valid until the next
   *     step
   */
  public Tensor forward(
      BatchLayout batch, Workspace workspace, KvCache cache, LoraPort lora, OpStream ops) {
    int rows = batch.rows();
    ResidualStream stream =
        new ResidualStream(
            workspace.residual().first(rows),
            workspace.normed().first(rows),
            workspace.blockOut().first(rows));
    Tensor residual = stream.residual();
    ops.embed(embedding, batch.tokens(), residual);
    ops.norm(residual, layers.getFirst().attentionNorm(), stream.normed());
    for (int i = 0; i < layers.size(); i++) {
      Layer layer = layers.get(i);
      attention(i, layer, batch, stream.normed(), stream.blockOut(), workspace, cache, lora, ops);
      NormParams next = i + 1 < layers.size() ? layers.get(i + 1).attentionNorm() : null;
      layer.mlp().forward(i, stream, layer.mlpNorm(), next, workspace, lora, ops);
    }
    return residual;
  }

  private void attention(
      int index,
      Layer layer,
      BatchLayout batch,
      Tensor x,
      Tensor out,
      Workspace workspace,
      KvCache cache,
      LoraPort lora,
      OpStream ops) {
    int rows = batch.rows();
    Tensor q = workspace.q().first(rows);
    Tensor k = workspace.k().first(rows);
    Tensor v = workspace.v().first(rows);
    Tensor attended = workspace.attended().first(rows);
    lora.publish(index, LoraSite.ATTENTION_IN, x);
    ops.project(layer.qkv(), x, q, k, v);
    lora.join(index, LoraSite.ATTENTION_IN, x, q, k, v);
    ops.attend(batch, preparations.get(index), q, k, v, cache, index, layer.attention(), attended);
    lora.publish(index, LoraSite.ATTENTION_OUT, attended);
    ops.project(layer.output(), attended, out);
    lora.join(index, LoraSite.ATTENTION_OUT, attended, out);
  }

  /**
   * Logits of chosen rows.
   *
   * @param residual what {@link #forward} returned
   * @param rows at most {@link Workspace#logitCapacity} row numbers
   * @return {@code [rows.length, vocab]}; valid until the next call
   */
  public Tensor logits(Tensor residual, int[] rows, Workspace workspace, OpStream ops) {
    Tensor last = workspace.lastRows().first(rows.length);
    Tensor logits = workspace.logits().first(rows.length);
    Tensor normed = workspace.lastNormed().first(rows.length);
    ops.gather(residual, rows, last);
    ops.norm(last, finalNorm, normed);
    ops.project(head, normed, logits);
    return logits;
  }
}
