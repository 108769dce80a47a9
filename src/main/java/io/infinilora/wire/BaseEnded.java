package io.infinilora.wire;

/**
 * A base model ends in order. All its leases end, those included that it asked for and was not told
 * of yet.
 *
 * @param base name of the base-model instance
 */
public record BaseEnded(String base) {}
