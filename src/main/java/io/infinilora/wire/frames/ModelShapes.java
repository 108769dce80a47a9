package io.infinilora.wire.frames;

import io.infinilora.core.LoraShard;
import io.infinilora.core.ModelSpec;

/**
 * What both sides of a connection must agree on: the sizes from which those of all frames follow.
 * As text rather than a digest, so that a refusal can say what differs.
 */
public final class ModelShapes {
  private ModelShapes() {}

  /** The shapes of a model's LoRA sites and the part of them that a shard has. */
  public static String of(ModelSpec spec, LoraShard shard) {
    ModelSpec.Attention attention = spec.attention();
    ModelSpec.Moe moe = spec.mlp().moe();
    return "%d layers, hidden %d, %d/%d heads of %d, intermediate %d%s; shard %s"
        .formatted(
            spec.layers(),
            spec.hidden(),
            attention.heads(),
            attention.kvHeads(),
            attention.headDim(),
            spec.mlp().intermediate(),
            moe == null ? "" : ", %d of %d experts".formatted(moe.topK(), moe.experts()),
            shard);
  }
}
