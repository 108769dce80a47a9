package io.infinilora.engine;

import io.infinilora.backend.Backend;
import io.infinilora.backend.KvCache;
import io.infinilora.backend.KvLayout;
import io.infinilora.config.SchedulerConfig;
import io.infinilora.core.ModelSpec;
import io.infinilora.model.Transformer;
import io.infinilora.model.Workspace;

/**
 * A loaded model with the memory of one instance.
 *
 * @param transformer weights
 * @param workspace activations of one step
 * @param cache keys and values
 * @param backend the device
 */
public record BaseModel(
    Transformer transformer, Workspace workspace, KvCache cache, Backend backend) {

  /**
   * Most rows whose logits are computed at once; bounds the logits buffer at 64 rows of the
   * vocabulary.
   */
  private static final int MAX_LOGIT_ROWS = 64;

  /** Allocates the memory that steps within {@code config} need. */
  public static BaseModel allocate(
      Transformer transformer, SchedulerConfig config, Backend backend) {
    ModelSpec spec = transformer.spec();
    ModelSpec.Attention attention = spec.attention();
    return new BaseModel(
        transformer,
        Workspace.allocate(
            backend,
            spec,
            config.maxBatchedTokens(),
            Math.min(MAX_LOGIT_ROWS, config.maxBatchedTokens())),
        backend.kvCache(
            new KvLayout(
                spec.layers(),
                config.kvBlocks(),
                config.blockSize(),
                attention.kvHeads(),
                attention.headDim())),
        backend);
  }
}
