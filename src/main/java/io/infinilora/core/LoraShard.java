package io.infinilora.core;

/**
 * The part of every adapter that one shard of the LoRA Server holds and computes: a range of layers
 * and, in them, a range of experts. A grid of {@code expertShards} x {@code stages} shards
 * (EPx-PPy) covers the model. Sites without experts are not split: those of layer n belong to
 * expert shard {@code n mod expertShards} of its stage.
 *
 * @param expertShard index among the shards of its stage, from 0
 * @param expertShards shards per stage (x)
 * @param stage index of its range of layers, from 0
 * @param stages number of ranges (y)
 */
public record LoraShard(int expertShard, int expertShards, int stage, int stages) {

  /** The only shard of an undivided server. */
  public static final LoraShard WHOLE = new LoraShard(0, 1, 0, 1);

  /** Rejects shards outside their grid. */
  public LoraShard {
    if (expertShard < 0 || expertShard >= expertShards || stage < 0 || stage >= stages) {
      throw new IllegalArgumentException(
          "shard (%d, %d) of a grid of %d x %d"
              .formatted(expertShard, stage, expertShards, stages));
    }
  }

  /** First layer of the range. */
  public int firstLayer(ModelSpec spec) {
    return share(spec.layers(), stage, stages);
  }

  /** End of the range of layers, exclusive. */
  public int endLayer(ModelSpec spec) {
    return share(spec.layers(), stage + 1, stages);
  }

  /** First expert of the range. */
  public int firstExpert(ModelSpec spec) {
    return share(experts(spec), expertShard, expertShards);
  }

  /** End of the range of experts, exclusive. */
  public int endExpert(ModelSpec spec) {
    return share(experts(spec), expertShard + 1, expertShards);
  }

  private static int experts(ModelSpec spec) {
    return spec.mlp().moe() == null ? 0 : spec.mlp().moe().experts();
  }

  private static int share(int n, int index, int parts) {
    return (int) ((long) n * index / parts);
  }

  /** Whether the shard computes a site of a layer, all of it or its experts' part. */
  public boolean holds(ModelSpec spec, int layer, LoraSite site) {
    if (layer < firstLayer(spec) || layer >= endLayer(spec)) {
      return false;
    }
    return spec.routed(site)
        ? firstExpert(spec) < endExpert(spec)
        : layer % expertShards == expertShard;
  }

  /** Whether the shard has an expert of the layers of its range. */
  public boolean holdsExpert(ModelSpec spec, int expert) {
    return expert >= firstExpert(spec) && expert < endExpert(spec);
  }

  /** Number of the shard in its grid, stage by stage. */
  public int index() {
    return stage * expertShards + expertShard;
  }

  @Override
  public String toString() {
    return "EP%d/%d-PP%d/%d".formatted(expertShard, expertShards, stage, stages);
  }
}
