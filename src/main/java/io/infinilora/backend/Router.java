package io.infinilora.backend;

import io.infinilora.core.ModelSpec;

/**
 * How the experts of a layer are chosen.
 *
 * @param projection gives their logits: one output of as many features
 * @param moe what becomes of the logits
 */
public record Router(Projection projection, ModelSpec.Moe moe) {}
