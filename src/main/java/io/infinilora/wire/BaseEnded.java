package io.infinilora.wire;

/**
 * A base model ends in order. All its leases end, those included that it asked for and was not told
 * of yet.
 *
 * @param session under which they are held
 */
public record BaseEnded(String session) {}
