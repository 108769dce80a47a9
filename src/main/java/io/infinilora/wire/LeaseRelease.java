package io.infinilora.wire;

/**
 * Ends a lease.
 *
 * @param base who holds it
 * @param grant what was granted; passed over by a later incarnation of the shard
 */
public record LeaseRelease(String base, LeaseGrant grant) {}
