package io.infinilora.wire;

/**
 * Ends a lease.
 *
 * @param session under which it is held
 * @param grant what was granted; passed over by a later incarnation of the shard
 */
public record LeaseRelease(String session, LeaseGrant grant) {}
