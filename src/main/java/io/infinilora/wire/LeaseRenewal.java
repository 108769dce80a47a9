package io.infinilora.wire;

/**
 * A base model lives. All leases of its session end if this has not come for some time.
 *
 * @param session under which they are held
 */
public record LeaseRenewal(String session) {}
