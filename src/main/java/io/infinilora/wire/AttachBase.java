package io.infinilora.wire;

/**
 * A base-model instance introduces itself to the LoRA Server.
 *
 * @param base name of the instance, for logs
 */
public record AttachBase(String base) {}
