package io.infinilora.wire.frames;

import io.infinilora.core.LoraShard;
import io.infinilora.core.LoraSite;
import io.infinilora.core.LoraTarget;
import io.infinilora.core.ModelSpec;
import io.infinilora.wire.LoraExchange;
import java.util.Set;

/**
 * Where things are in the payloads of a model's sites, and how large they are.
 *
 * <ul>
 *   <li>{@link FrameType#ACTIVATIONS}: {@link #routingBytes routing}, at the first routed site of a
 *       layer that the step has, then {@code [rows, in]}, or {@code [rows * topK, in]} at {@code
 *       MLP_OUT} of a model with experts.
 *   <li>{@link FrameType#DELTAS}: {@code [rows * outRows, out]} of each target of the site that the
 *       step has, in the order of {@link LoraSite#targets}.
 * </ul>
 *
 * <p>Rows are bf16 without gaps; see {@link io.infinilora.backend.OpStream#packRows}.
 */
public final class FrameLayout {
  private static final int ELEMENT_BYTES = 2;
  private static final int CHOICE_BYTES = 8;

  private final ModelSpec spec;
  private final LoraShard shard;

  /** The layout of what one shard of a model's LoRA Server gets and gives. */
  public FrameLayout(ModelSpec spec, LoraShard shard) {
    this.spec = spec;
    this.shard = shard;
  }

  /** Most rows of a step whose largest payload still has a length that a header can hold. */
  public int mostRows() {
    long bytes = 1;
    for (LoraSite site : LoraSite.all()) {
      bytes = Math.max(bytes, bytesPerRow(site) + choiceBytes());
      bytes = Math.max(bytes, site.targets().stream().mapToLong(this::bytesPerRow).sum());
    }
    return Math.toIntExact(Integer.MAX_VALUE / bytes);
  }

  private long choiceBytes() {
    return spec.mlp().moe() == null ? 0 : (long) CHOICE_BYTES * spec.mlp().moe().topK();
  }

  private long bytesPerRow(LoraSite site) {
    return (long) ELEMENT_BYTES * spec.inRows(site) * spec.inWidth(site);
  }

  private long bytesPerRow(LoraTarget target) {
    return (long) ELEMENT_BYTES * LoraExchange.outRows(spec, shard, target) * spec.outWidth(target);
  }

  /** Whether a step's activations of a site begin with the routing. */
  public boolean carriesRouting(LoraSite site, Set<LoraSite> sites) {
    return spec.routed(site) && (site == LoraSite.MLP_IN || !sites.contains(LoraSite.MLP_IN));
  }

  /** Bytes of the routing of {@code rows} rows. */
  public int routingBytes(int rows) {
    return Math.toIntExact(choiceBytes() * rows);
  }

  /** Bytes of the rows that go to a site. */
  public int rowBytes(LoraSite site, int rows) {
    return Math.toIntExact(bytesPerRow(site) * rows);
  }

  /** Bytes of a payload of activations. */
  public int activationBytes(LoraSite site, Set<LoraSite> sites, int rows) {
    return rowBytes(site, rows) + (carriesRouting(site, sites) ? routingBytes(rows) : 0);
  }

  /** Bytes of the deltas of one target. */
  public int deltaBytes(LoraTarget target, int rows) {
    return Math.toIntExact(bytesPerRow(target) * rows);
  }

  /** Bytes of a payload of deltas. */
  public int deltaBytes(LoraSite site, Set<LoraTarget> targets, int rows) {
    return site.targets().stream()
        .filter(targets::contains)
        .mapToInt(target -> deltaBytes(target, rows))
        .sum();
  }

  /** Whether the shard computes a site of a layer of the model. */
  public boolean holds(int layer, LoraSite site) {
    return layer < spec.layers() && shard.holds(spec, layer, site);
  }
}
