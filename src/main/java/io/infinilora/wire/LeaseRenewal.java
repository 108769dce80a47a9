package io.infinilora.wire;

/**
 * A base model lives. All its leases end if this has not come for some time.
 *
 * @param base name of the base-model instance
 */
public record LeaseRenewal(String base) {}
